// One supervised process: what it is started with, and how it is doing.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "launcher/process/cgroup.h"
#include "launcher/process/process.h"
#include "launcher/protocol/protocol.h"

namespace hf::launcher {

using TimePoint = std::chrono::steady_clock::time_point;

enum class Role { kVault, kDaemon, kKeeper, kQemu, kLink };

struct RestartLimits {
  size_t quick_restarts_max = 5;  // at once, within `window`; then with growing delays
  std::chrono::milliseconds window{10'000};
  std::chrono::milliseconds delay_first{1'000};
  std::chrono::milliseconds delay_max{30'000};
};

// How long to wait before the next restart: pure, so that tests need no waiting.
class Backoff {
 public:
  explicit Backoff(RestartLimits limits) : limits_(limits) {}
  // Notes a restart at `now` and says how long to wait for it.
  std::chrono::milliseconds next_delay(TimePoint now);

 private:
  RestartLimits limits_;
  std::deque<TimePoint> recent_;
  std::chrono::milliseconds delay_{0};
};

// The last bytes of stderr.
class Tail {
 public:
  void append(std::string_view text);
  const std::string& text() const { return text_; }
  void clear() { text_.clear(); }

 private:
  std::string text_;
};

// A listener, and which file it is.
struct MadeSocket {
  SocketSpec spec;
  dev_t device = 0;
  ino_t inode = 0;
};

struct Unit {
  std::string name;
  Role role = Role::kKeeper;
  std::optional<VmId> vm;
  ProcessSpec spec;                 // its descriptors point into `fds`
  std::vector<sys::UniqueFd> fds;   // held here, so that a restart has the same ones
  sys::UniqueFd directory;          // of `spec`
  std::vector<MadeSocket> sockets;  // to unlink when it is over
  RestartPolicy restart = RestartPolicy::kNever;
  Backoff backoff{RestartLimits{}};

  pid_t pid = 0;
  sys::UniqueFd pidfd;        // valid while it runs
  sys::UniqueFd stderr_pipe;  // valid until its end was read
  sys::UniqueFd log;
  size_t log_bytes = 0;  // written since it was opened
  Tail tail;
  ExitStatus last_exit;
  uint64_t restarts = 0;
  std::optional<TimePoint> restart_at;
  std::optional<TimePoint> kill_at;
  Cgroup cgroup;  // not valid where there are none
  // Its process has ended, and what that left behind not yet: looked at again then.
  std::optional<TimePoint> empty_at;
  TimePoint ended_at;
  bool stopping = false;
  std::vector<uint64_t> stop_waiters;    // ids of stop requests to answer
  std::vector<uint64_t> remove_waiters;  // of those after which its VM is to be removed

  bool running() const { return pidfd.valid(); }
  // Neither running, nor about to, nor leaving anything behind.
  bool over() const { return !running() && !restart_at && !empty_at; }
};

// Whether an exit is followed by a restart. A process that says why it cannot start is believed,
// unless what it lacks may come (kUnavailable, kTimeout; a keeper's kNoSpace: a guest waits).
bool wants_restart(const Unit& unit, ExitStatus exit);

}  // namespace hf::launcher
