// VMs whose guest stands still though QEMU runs, because their keeper does not stand: which, and
// why.
//
// One that ends for want of space is no accident, whoever starts it again; of what else it may say
// when it ends the second time counts. A keeper that was started again is believed once it has
// stood for a while: on a disk that is still full it ends with the first write, and the VM is not
// said to run and to stall in turns.
//
// Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/ids.h"
#include "base/result.h"

namespace hf::control {

class Stalls {
 public:
  // True: it did not stall before, or for another reason.
  bool begins(VmId vm, const Error& why) {
    std::lock_guard lock(mutex_);
    const auto at = vms_.find(vm);
    const bool news = at == vms_.end() || at->second.code != why.code;
    vms_.insert_or_assign(vm, why);
    return news;
  }
  // Its keeper ended, and is started again. Whether it had before, and has not stood since.
  bool ended_before(VmId vm) {
    std::lock_guard lock(mutex_);
    return !suspects_.insert(vm).second;
  }
  bool doubtful(VmId vm) const {
    std::lock_guard lock(mutex_);
    return vms_.contains(vm) || suspects_.contains(vm);
  }
  // Why it ended, if it stalled.
  std::optional<Error> ends(VmId vm) {
    std::lock_guard lock(mutex_);
    suspects_.erase(vm);
    const auto node = vms_.extract(vm);
    if (node.empty()) return std::nullopt;
    return node.mapped();
  }
  std::optional<Error> of(VmId vm) const {
    std::lock_guard lock(mutex_);
    const auto at = vms_.find(vm);
    if (at == vms_.end()) return std::nullopt;
    return at->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<VmId, Error> vms_;
  std::set<VmId> suspects_;
};

}  // namespace hf::control
