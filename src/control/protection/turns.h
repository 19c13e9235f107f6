// Who works on a VM's protection now, at either end: beginning or ending it, taking its offer,
// giving the replica up, taking the VM over, handing it over. One at a time, whatever asked for it:
// a job of this site's, or a question of another one's.
//
// Thread-safe. Holds no memory of a VM that nobody works on.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "base/ids.h"

namespace hf::control {

class Turns {
 public:
  class Turn {
   public:
    Turn(Turn&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), vm_(other.vm_) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (owner_ != nullptr) owner_->give_back(vm_);
    }

   private:
    friend class Turns;
    Turn(Turns& owner, VmId vm) : owner_(&owner), vm_(vm) {}
    Turns* owner_;
    VmId vm_;
  };

  // Nothing: somebody else had it all of `limit`.
  std::optional<Turn> take(VmId vm, std::chrono::milliseconds limit);

 private:
  void give_back(VmId vm);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<VmId> taken_;
};

}  // namespace hf::control
