// Judge: hears what a run did and keeps the first violation. Probes: rare branches a set of runs
// reached.
#pragma once

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "sim/world/scheduler.h"

namespace hf::sim {

// Each must be reached by some seed of the nightly set; the report shows those that were not.
// clang-format off: it nests each line deeper than the one before
#define HF_SIM_PROBES(X) \
  X(keeper_killed) X(power_lost_home) X(power_lost_replica) X(replica_killed) \
  X(died_inside_operation) X(died_while_opening) X(unsynced_records_lost) \
  X(requests_lost_in_flight) X(disk_full) X(sync_failed) X(clock_jumped) X(link_cut) \
  X(message_lost) X(sender_reconnected) X(sender_restarted) X(replica_resumed_mid_line) \
  X(feed_failed_under_sender) X(home_closed_cleanly) X(segments_closed) X(segments_merged) \
  X(failover_after_stop) X(failover_after_death) X(failover_split) X(failover_died_inside) \
  X(replica_behind_at_failover) X(stale_source_superseded) X(start_refused_superseded) \
  X(start_refused_no_answer) X(start_without_peer) X(attack_begun) X(attack_found_at_replica) \
  X(attack_found_at_home) X(replica_went_back) X(replica_seeded_again) X(peer_forgotten) X(seed_begun) \
  X(replica_seeded_from_bases) X(older_replica_seeded) X(decay_found) X(fork_branch_written) \
  X(pin_released)
// clang-format on

enum class Probe : uint8_t {
#define HF_SIM_PROBE(name) name,
  HF_SIM_PROBES(HF_SIM_PROBE)
#undef HF_SIM_PROBE
      kCount
};
inline constexpr size_t kProbeCount = static_cast<size_t>(Probe::kCount);
using ProbeCounts = std::array<uint64_t, kProbeCount>;
const char* to_string(Probe probe);

class Judge {
 public:
  Judge(const Scheduler& scheduler, bool tracing) : scheduler_(scheduler), tracing_(tracing) {}

  template <typename... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    if (tracing_) write(fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void violated(fmt::format_string<Args...> format, Args&&... args) {
    if (!verdict_) verdict_ = fmt::format(format, std::forward<Args>(args)...);
    if (tracing_) write("VIOLATED " + fmt::format(format, std::forward<Args>(args)...));
  }
  void reached(Probe probe) { probes_[static_cast<size_t>(probe)]++; }

  const std::optional<std::string>& verdict() const { return verdict_; }
  const ProbeCounts& probes() const { return probes_; }
  const std::vector<std::string>& trace() const { return trace_; }

 private:
  void write(std::string line);

  const Scheduler& scheduler_;
  bool tracing_;
  std::optional<std::string> verdict_;
  std::vector<std::string> trace_;
  ProbeCounts probes_{};
};

}  // namespace hf::sim
