// For tests of what accepts connections.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <chrono>
#include <ctime>

#include "base/assert.h"
#include "sys/fd.h"

namespace hf::sys::testing {

// While it lives, no descriptor can be opened in this process.
class NoDescriptorsLeft {
 public:
  NoDescriptorsLeft() {
    HF_ASSERT(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const UniqueFd lowest_free(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(lowest_free.get());
    HF_ASSERT(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  ~NoDescriptorsLeft() { static_cast<void>(::setrlimit(RLIMIT_NOFILE, &before_)); }
  NoDescriptorsLeft(const NoDescriptorsLeft&) = delete;
  NoDescriptorsLeft& operator=(const NoDescriptorsLeft&) = delete;

 private:
  rlimit before_{};
};

// Of this process, user's and system's.
inline std::chrono::milliseconds processor_time() {
  timespec time{};
  HF_ASSERT(::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return std::chrono::milliseconds(time.tv_sec * 1000 + time.tv_nsec / 1'000'000);
}

}  // namespace hf::sys::testing
