// A mutex that clang's -Wthread-safety understands: members marked HF_GUARDED_BY(mutex_) may only
// be touched under a MutexLock, functions marked HF_REQUIRES(mutex_) only called under one.
#pragma once

#include <mutex>

#if defined(__clang__)
#define HF_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define HF_THREAD_ATTRIBUTE(x)
#endif
#define HF_GUARDED_BY(mutex) HF_THREAD_ATTRIBUTE(guarded_by(mutex))
#define HF_REQUIRES(mutex) HF_THREAD_ATTRIBUTE(requires_capability(mutex))
#define HF_EXCLUDES(mutex) HF_THREAD_ATTRIBUTE(locks_excluded(mutex))

namespace hf {

class HF_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() HF_THREAD_ATTRIBUTE(acquire_capability()) { inner_.lock(); }
  void unlock() HF_THREAD_ATTRIBUTE(release_capability()) { inner_.unlock(); }

 private:
  std::mutex inner_;
};

class HF_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HF_THREAD_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() HF_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace hf
