// The real clock.
#pragma once

#include "base/clock.h"

namespace hf::sys {

class SystemClock final : public Clock {
 public:
  Micros wall_time() override;
  Micros monotonic() override;  // CLOCK_BOOTTIME: runs on while the host is suspended
};

}  // namespace hf::sys
