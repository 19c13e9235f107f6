// Whether the site is being stopped: nothing starts then, and a guest that shuts down because it
// was asked to is still a wanted one.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <chrono>

namespace hf::control {

class Closing {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  bool now() const { return Clock::now().time_since_epoch().count() < until_; }
  // Whoever says a later one counts; Time::max(): for good.
  void until(Time time) {
    Clock::rep wanted = time.time_since_epoch().count();
    Clock::rep seen = until_;
    while (seen < wanted && !until_.compare_exchange_weak(seen, wanted)) {
    }
  }
  // Unless somebody has said a later one.
  void lift(Time time) {
    Clock::rep seen = time.time_since_epoch().count();
    until_.compare_exchange_strong(seen, 0);
  }

 private:
  std::atomic<Clock::rep> until_{0};
};

}  // namespace hf::control
