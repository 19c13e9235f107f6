// Scheduler: virtual time. Events run in order of their time; equal times in order of scheduling,
// so a run is a function of its seed. SimClock: a site's view of that time, whose wall clock can be
// set wrong.
#pragma once

#include <functional>
#include <queue>
#include <unordered_set>
#include <vector>

#include "base/clock.h"

namespace hf::sim {

class Scheduler {
 public:
  using EventId = uint64_t;

  Micros now() const { return now_; }
  EventId at(Micros when, std::function<void()> what);  // a time gone by means now
  EventId after(uint64_t delay_us, std::function<void()> what);
  void cancel(EventId event);  // unknown or already run: nothing happens

  bool idle() const { return queue_.size() == cancelled_.size(); }
  Micros next_event();  // UINT64_MAX: none
  bool run_one();       // false if nothing was left
  void run_until(Micros when);
  void run_for(uint64_t duration_us) { run_until(Micros(now_.value + duration_us)); }
  // Until nothing is left; asserts after `events_max` (a run that never comes to rest is a bug).
  void run_until_idle(uint64_t events_max = 1'000'000);

 private:
  struct Event {
    Micros when;
    EventId id;
    std::function<void()> what;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.when != b.when ? a.when > b.when : a.id > b.id;
    }
  };

  void drop_cancelled();

  // Starts in 2020, so that no code takes a simulated time for "never".
  Micros now_{1'577'836'800'000'000};
  EventId next_id_ = 1;
  std::priority_queue<Event, std::vector<Event>, Later> queue_;
  std::unordered_set<EventId> pending_;
  std::unordered_set<EventId> cancelled_;
};

class SimClock final : public Clock {
 public:
  explicit SimClock(const Scheduler& scheduler) : scheduler_(scheduler) {}
  Micros wall_time() override {
    return Micros(scheduler_.now().value + static_cast<uint64_t>(offset_us_));
  }
  Micros monotonic() override { return scheduler_.now(); }
  void jump(int64_t by_us) { offset_us_ += by_us; }

 private:
  const Scheduler& scheduler_;
  int64_t offset_us_ = 0;
};

}  // namespace hf::sim
