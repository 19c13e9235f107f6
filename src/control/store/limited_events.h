// Events that others can cause without end, and what fails over and over: of each kind a few at
// once are told, then one in ten seconds that says how many were left out. So nobody pushes out of
// the events what matters (base/log_limiter.h).
#pragma once

#include "base/log_limiter.h"
#include "base/mutex.h"
#include "control/store/catalog.h"

namespace hf::control {

enum class Often {
  kRequest,   // refused to a user who may ask
  kStranger,  // refused to one who may not
  kPairing,   // a first contact that failed
  kPeer,      // what a paired site asks again and again
};
inline constexpr size_t kOftenKinds = 4;

// Thread-safe.
class LimitedEvents {
 public:
  explicit LimitedEvents(Catalog& catalog) : catalog_(catalog) {}
  void tell(Often kind, EventRow event);
  // Caused by a paired site: counted by itself.
  void tell(Often kind, SiteId site, EventRow event);

 private:
  using Limiter = LogLimiter<Often, kOftenKinds>;
  void tell(Limiter::Verdict verdict, EventRow event);

  Catalog& catalog_;
  Mutex mutex_;
  Limiter limiter_ HF_GUARDED_BY(mutex_);
};

}  // namespace hf::control
