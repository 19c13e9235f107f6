#include "control/protection/turns.h"

namespace hf::control {

std::optional<Turns::Turn> Turns::take(VmId vm, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, limit, [&] { return !taken_.contains(vm); })) return std::nullopt;
  taken_.insert(vm);
  return Turn(*this, vm);
}

void Turns::give_back(VmId vm) {
  {
    std::lock_guard lock(mutex_);
    taken_.erase(vm);
  }
  changed_.notify_all();
}

}  // namespace hf::control
