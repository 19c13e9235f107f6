// Notice: tells those who wait that something has changed, without a thread for each of them.
//
// Who waits reads version() first, looks at the state, and subscribes with the version that it
// saw: what was told in between wakes it at once, so nothing is missed. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/mutex.h"

namespace hf::control {

class Notice {
 public:
  uint64_t version() const;
  void tell();

  // Calls `wake` once, as soon as version() is above `seen`, perhaps before it returns. `wake` runs
  // under the notice's lock, on the thread that tells: it may only hand the news on.
  uint64_t subscribe(uint64_t seen, std::function<void()> wake);
  // After it `wake` is not called any more, nor running.
  void unsubscribe(uint64_t id);

 private:
  mutable Mutex mutex_;
  uint64_t version_ HF_GUARDED_BY(mutex_) = 1;
  uint64_t next_id_ HF_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, std::function<void()>> waiting_ HF_GUARDED_BY(mutex_);
};

}  // namespace hf::control
