#include "sim/world/scheduler.h"

namespace hf::sim {

Scheduler::EventId Scheduler::at(Micros when, std::function<void()> what) {
  const EventId id = next_id_++;
  queue_.push({.when = when < now_ ? now_ : when, .id = id, .what = std::move(what)});
  pending_.insert(id);
  return id;
}

Scheduler::EventId Scheduler::after(uint64_t delay_us, std::function<void()> what) {
  return at(Micros(now_.value + delay_us), std::move(what));
}

void Scheduler::cancel(EventId event) {
  if (pending_.contains(event)) cancelled_.insert(event);
}

void Scheduler::drop_cancelled() {
  while (!queue_.empty() && cancelled_.erase(queue_.top().id) > 0) {
    pending_.erase(queue_.top().id);
    queue_.pop();
  }
}

Micros Scheduler::next_event() {
  drop_cancelled();
  return queue_.empty() ? Micros(UINT64_MAX) : queue_.top().when;
}

bool Scheduler::run_one() {
  drop_cancelled();
  if (queue_.empty()) return false;
  // top() is const; the event leaves the queue in the next line, so moving out of it is sound.
  Event event = std::move(const_cast<Event&>(queue_.top()));
  queue_.pop();
  pending_.erase(event.id);
  HF_ASSERT(event.when >= now_);
  now_ = event.when;
  event.what();
  return true;
}

void Scheduler::run_until(Micros when) {
  for (;;) {
    drop_cancelled();
    if (queue_.empty() || queue_.top().when > when) break;
    run_one();
  }
  if (now_ < when) now_ = when;
}

void Scheduler::run_until_idle(uint64_t events_max) {
  while (run_one()) {
    HF_ASSERT(events_max > 0);
    events_max--;
  }
}

}  // namespace hf::sim
