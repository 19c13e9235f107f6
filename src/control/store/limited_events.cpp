#include "control/store/limited_events.h"

#include "sys/system_clock.h"

namespace hf::control {

void LimitedEvents::tell(Often kind, EventRow event) {
  const Micros now = sys::SystemClock().monotonic();
  Limiter::Verdict verdict;
  {
    MutexLock lock(mutex_);
    verdict = limiter_.look(kind, now);
  }
  tell(verdict, std::move(event));
}

void LimitedEvents::tell(Often kind, SiteId site, EventRow event) {
  const Micros now = sys::SystemClock().monotonic();
  Limiter::Verdict verdict;
  {
    MutexLock lock(mutex_);
    verdict = limiter_.look(kind, site, now);
  }
  tell(verdict, std::move(event));
}

void LimitedEvents::tell(Limiter::Verdict verdict, EventRow event) {
  if (!verdict.passes) return;
  if (verdict.left_out != 0)
    event.text += " (and " + std::to_string(verdict.left_out) + " of this kind before it)";
  control::tell(catalog_, std::move(event));
}

}  // namespace hf::control
