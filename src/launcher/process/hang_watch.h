// Whether a process still turns its loop: it counts an event descriptor up once a second, which
// wakes nobody, and this looks at it once a second.
//
// Pure: the clock is the caller's. A look that comes late says that this process, or the host, did
// not run; then the other's silence proves nothing.
#pragma once

#include <chrono>
#include <optional>

namespace hf::launcher {

struct HangLimits {
  std::chrono::milliseconds tick{1'000};
  int silent_ticks_max = 3;
};

class HangWatch {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  explicit HangWatch(HangLimits limits) : limits_(limits) {}

  // Of the process's start. It is watched from its first sign on: how long a start takes is its own
  // business.
  void begin(TimePoint now);
  void end() { next_.reset(); }
  std::optional<TimePoint> next_look() const { return next_; }
  // `heard`: a sign since the last look. True: it hangs.
  bool look(TimePoint now, bool heard);

 private:
  HangLimits limits_;
  std::optional<TimePoint> next_;
  bool heard_once_ = false;
  int silent_ticks_ = 0;
};

}  // namespace hf::launcher
