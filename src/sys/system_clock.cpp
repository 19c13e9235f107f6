#include "sys/system_clock.h"

#include <ctime>

namespace hf::sys {
namespace {
Micros read_clock(clockid_t id) {
  timespec now{};
  HF_ASSERT(::clock_gettime(id, &now) == 0);
  return Micros(static_cast<uint64_t>(now.tv_sec) * 1'000'000 +
                static_cast<uint64_t>(now.tv_nsec) / 1000);
}
}  // namespace

Micros SystemClock::wall_time() { return read_clock(CLOCK_REALTIME); }
Micros SystemClock::monotonic() { return read_clock(CLOCK_BOOTTIME); }

}  // namespace hf::sys
