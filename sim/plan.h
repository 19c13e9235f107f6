// Plan: what a seed decides before the run begins.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "journal/format/faults.h"
#include "recovery/state.h"
#include "replication/faults.h"
#include "sim/world/rng.h"

namespace hf::sim {

// Planted in the production code; a run with one is expected to fail.
enum class Fault : uint8_t {
  kNone,
  kSyncSkipped,
  kAckedBeforeAppended,
  kShippedBeforeDurable,
  kRecordsSwapped,
  kCloseNotChecked,
  kEpochNotRaised,
  kOverwrittenLeftOut,
  kBatchMacNotChecked,
  kAckMacNotChecked,
  kSessionNotBound,
};
inline constexpr std::array<std::string_view, 11> kFaultNames{"none",
                                                              "sync-skipped",
                                                              "acked-before-appended",
                                                              "shipped-before-durable",
                                                              "records-swapped",
                                                              "close-not-checked",
                                                              "epoch-not-raised",
                                                              "overwritten-left-out",
                                                              "batch-mac-not-checked",
                                                              "ack-mac-not-checked",
                                                              "session-not-bound"};
std::string_view to_string(Fault fault);
std::optional<Fault> parse_fault(std::string_view name);
journal::Faults journal_faults(Fault fault);
replication::Faults replication_faults(Fault fault);
recovery::Faults recovery_faults(Fault fault);

enum class Happening : uint8_t {
  kKillKeeper,
  kKillReplica,
  kPowerLossHome,
  kPowerLossReplica,
  kLinkCut,
  kRestartSender,
  kDiskFull,
  kSyncFailure,
  kDieInside,
  kClockJump,
  kReplicaLost,  // its disk is exchanged for an empty one
  kForgetPeer,   // home merges on, whatever the replica still lacks
  kAttack,
  kFailoverAfterStop,   // the source is asked, and stops
  kFailoverAfterDeath,  // the source's site lost power; it comes back later
  kFailoverSplit,       // the link is cut, the source runs on
};
const char* to_string(Happening happening);

struct PlannedEvent {
  uint64_t at_us = 0;
  Happening happening = Happening::kKillKeeper;
};

struct Plan {
  uint64_t segment_bytes = 0;
  size_t merge_keep_segments = 0;
  uint64_t pin_bytes_max = UINT64_MAX;  // what the replica may keep home from merging
  uint64_t auto_sync_us = 0;
  uint64_t think_us_max = 0;
  size_t in_flight_max = 0;
  uint64_t loss_one_in = 0;
  uint64_t horizon_us = 0;           // until the guest rests and everything is mended
  std::vector<PlannedEvent> events;  // by time
};
Plan make_plan(SimRng& rng);

}  // namespace hf::sim
