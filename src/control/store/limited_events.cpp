#include "control/store/limited_events.h"

#include "sys/system_clock.h"

namespace hf::control {

void LimitedEvents::tell(Often kind, EventRow event) {
  sys::SystemClock clock;
  LogLimiter<Often, kOftenKinds>::Verdict verdict;
  {
    MutexLock lock(mutex_);
    verdict = limiter_.look(kind, clock.monotonic());
  }
  if (!verdict.passes) return;
  if (verdict.left_out != 0)
    event.text += " (and " + std::to_string(verdict.left_out) + " of this kind before it)";
  control::tell(catalog_, std::move(event));
}

}  // namespace hf::control
