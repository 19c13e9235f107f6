// Wall time that never goes back: for deadlines that are compared with times of records.
//
// A host's wall clock is set back at times. A reconnection planned by the old time would then wait
// for as long as the clock was set back, while the RPO grows. So time here runs on with the
// monotonic clock, and follows the wall clock only where that is ahead.
//
// For one thread.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace hf::daemon {

class ForwardClock {
 public:
  explicit ForwardClock(Clock& clock)
      : clock_(clock), wall_at_(clock.wall_time()), monotonic_at_(clock.monotonic()) {}

  Micros now() {
    const Micros monotonic = clock_.monotonic();
    wall_at_ = Micros(std::max(clock_.wall_time().value,
                               wall_at_.value + (monotonic.value - monotonic_at_.value)));
    monotonic_at_ = monotonic;
    return wall_at_;
  }

 private:
  Clock& clock_;
  Micros wall_at_;
  Micros monotonic_at_;
};

}  // namespace hf::daemon
