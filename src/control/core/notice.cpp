#include "control/core/notice.h"

#include <utility>

namespace hf::control {

uint64_t Notice::version() const {
  MutexLock lock(mutex_);
  return version_;
}

void Notice::tell() {
  MutexLock lock(mutex_);
  ++version_;
  // Each is told once: who still has nothing to say subscribes again.
  for (auto& [id, wake] : std::exchange(waiting_, {})) wake();
}

uint64_t Notice::subscribe(uint64_t seen, std::function<void()> wake) {
  MutexLock lock(mutex_);
  uint64_t id = next_id_++;
  if (version_ > seen) {
    wake();
  } else {
    waiting_.emplace(id, std::move(wake));
  }
  return id;
}

void Notice::unsubscribe(uint64_t id) {
  MutexLock lock(mutex_);
  waiting_.erase(id);
}

}  // namespace hf::control
