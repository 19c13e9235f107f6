// Timers by time: a binary heap of intrusive timers, each knowing its slot.
#pragma once

#include <optional>
#include <vector>

#include "sys/scheduler.h"

namespace hf::sys {

class TimerHeap {
 public:
  ~TimerHeap();
  void arm(Timer& timer, Micros at);
  void disarm(Timer& timer);
  std::optional<Micros> next() const;
  // Takes out the earliest timer that is due, or null.
  Timer* pop_due(Micros now);
  bool empty() const { return heap_.empty(); }

 private:
  void place(size_t slot, Timer& timer);
  void sift_up(size_t slot);
  void sift_down(size_t slot);
  std::vector<Timer*> heap_;
};

}  // namespace hf::sys
