// When to try again what failed: after pauses that double, up to a bound.
#pragma once

#include <algorithm>
#include <chrono>

namespace hf::control {

class Pace {
 public:
  using Millis = std::chrono::milliseconds;
  Pace(Millis first, Millis longest) : first_(first), longest_(longest) {}

  // Of one more failure: how long to wait.
  Millis next() {
    pause_ = pause_.count() == 0 ? first_ : std::min(pause_ * 2, longest_);
    return pause_;
  }
  void reset() { pause_ = Millis(0); }

 private:
  Millis first_;
  Millis longest_;
  Millis pause_{0};
};

}  // namespace hf::control
