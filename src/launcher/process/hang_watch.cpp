#include "launcher/process/hang_watch.h"

namespace hf::launcher {

void HangWatch::begin(TimePoint now) {
  next_ = now + limits_.tick;
  heard_once_ = false;
  silent_ticks_ = 0;
}

bool HangWatch::look(TimePoint now, bool heard) {
  if (!next_ || now < *next_) return false;
  bool late = now > *next_ + limits_.tick / 2;
  next_ = now + limits_.tick;
  if (heard) {
    heard_once_ = true;
    silent_ticks_ = 0;
  } else if (heard_once_ && !late) {
    silent_ticks_ += 1;
  }
  return silent_ticks_ >= limits_.silent_ticks_max;
}

}  // namespace hf::launcher
