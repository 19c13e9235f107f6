// When a keeper that gave up under its running guest is started again: at once, and if it does not
// stand, ever more slowly. What ails it (a full disk, a damaged journal) may be mended meanwhile.
//
// Pure: the clock is the caller's. Thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>

#include "base/ids.h"
#include "control/core/pace.h"

namespace hf::control {

class Revivals {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kPauseFirst{1};
  static constexpr std::chrono::seconds kPauseMax{60};
  static constexpr std::chrono::seconds kStood{60};  // then it is as if it had never failed

  // It does not run, or not any more: when to start it. The same until begins().
  Time due(VmId vm, Time now) {
    std::lock_guard lock(mutex_);
    auto at = vms_.find(vm);
    if (at != vms_.end() && at->second.stands_since && now - *at->second.stands_since >= kStood) {
      vms_.erase(at);
      at = vms_.end();
    }
    if (at == vms_.end()) return now;
    Vm& known = at->second;
    known.stands_since.reset();
    if (!known.due) known.due = now + known.pace.next();
    return *known.due;
  }
  void begins(VmId vm) {
    std::lock_guard lock(mutex_);
    Vm& known = vms_[vm];
    known.due.reset();
    known.stands_since.reset();
  }
  void stands(VmId vm, Time now) {
    std::lock_guard lock(mutex_);
    // One that has ended again meanwhile stands no more.
    if (Vm& known = vms_[vm]; !known.due) known.stands_since = now;
  }
  // Its guest runs no more.
  void forget(VmId vm) {
    std::lock_guard lock(mutex_);
    vms_.erase(vm);
  }

 private:
  struct Vm {
    Pace pace{kPauseFirst, kPauseMax};
    std::optional<Time> due;
    std::optional<Time> stands_since;
  };
  std::mutex mutex_;
  std::map<VmId, Vm> vms_;
};

}  // namespace hf::control
