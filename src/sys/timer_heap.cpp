#include "sys/timer_heap.h"

namespace hf::sys {

TimerHeap::~TimerHeap() {
  for (Timer* timer : heap_) timer->slot_ = Timer::kNotArmed;
}

void TimerHeap::place(size_t slot, Timer& timer) {
  heap_[slot] = &timer;
  timer.slot_ = slot;
}

void TimerHeap::sift_up(size_t slot) {
  Timer& moving = *heap_[slot];
  while (slot > 0) {
    size_t parent = (slot - 1) / 2;
    if (heap_[parent]->at_ <= moving.at_) break;
    place(slot, *heap_[parent]);
    slot = parent;
  }
  place(slot, moving);
}

void TimerHeap::sift_down(size_t slot) {
  Timer& moving = *heap_[slot];
  for (;;) {
    size_t child = 2 * slot + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->at_ < heap_[child]->at_) ++child;
    if (heap_[child]->at_ >= moving.at_) break;
    place(slot, *heap_[child]);
    slot = child;
  }
  place(slot, moving);
}

void TimerHeap::arm(Timer& timer, Micros at) {
  if (timer.armed()) disarm(timer);
  timer.at_ = at;
  heap_.push_back(&timer);
  timer.slot_ = heap_.size() - 1;
  sift_up(timer.slot_);
}

void TimerHeap::disarm(Timer& timer) {
  if (!timer.armed()) return;
  size_t slot = timer.slot_;
  HF_ASSERT(slot < heap_.size() && heap_[slot] == &timer);
  timer.slot_ = Timer::kNotArmed;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(slot, *last);
  sift_up(slot);
  sift_down(last->slot_);
}

std::optional<Micros> TimerHeap::next() const {
  if (heap_.empty()) return std::nullopt;
  return heap_.front()->at_;
}

Timer* TimerHeap::pop_due(Micros now) {
  if (heap_.empty() || heap_.front()->at_ > now) return nullptr;
  Timer* timer = heap_.front();
  disarm(*timer);
  return timer;
}

}  // namespace hf::sys
