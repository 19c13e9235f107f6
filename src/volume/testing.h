// For tests and fuzzers of this directory: a loop driven by hand, a session's output as bytes.
#pragma once

#include "sys/timer_heap.h"
#include "volume/nbd_session.h"

namespace hf::volume::testing {

class ManualScheduler final : public sys::Scheduler {
 public:
  Micros now() override { return now_; }
  void defer(sys::Task& task) override { tasks_.push(task); }
  void cancel(sys::Task& task) override { tasks_.remove(task); }
  void each_turn(sys::Task& task) override { turns_.push_back(&task); }
  void end_turns(sys::Task& task) override { std::erase(turns_, &task); }
  void arm(sys::Timer& timer, Micros at) override { timers_.arm(timer, at); }
  void disarm(sys::Timer& timer) override { timers_.disarm(timer); }

  // Everything that is due, and what that defers in turn.
  void run_all() {
    run_due();
    for (size_t i = 0; i < turns_.size(); ++i) turns_[i]->run();
    run_due();
  }
  void advance(uint64_t microseconds) {
    now_.value += microseconds;
    run_all();
  }

 private:
  void run_due() {
    for (;;) {
      if (sys::Task* task = tasks_.pop()) {
        task->run();
      } else if (sys::Timer* timer = timers_.pop_due(now_)) {
        timer->on_timer();
      } else {
        return;
      }
    }
  }

  Micros now_{1'000'000};
  sys::TaskQueue tasks_;
  std::vector<sys::Task*> turns_;
  sys::TimerHeap timers_;
};

struct SessionOwner final : NbdSessionOwner {
  void on_session_ready() override { ++calls; }
  int calls = 0;
};

// Sends at most `limit` bytes into the returned buffer.
inline Bytes take_output(NbdSession& session, size_t limit = ~size_t{0}) {
  Bytes out;
  while (session.has_output() && out.size() < limit) {
    std::array<iovec, 8> parts{};
    size_t count = session.gather(parts);
    size_t before = out.size();
    for (size_t i = 0; i < count; ++i) {
      auto* data = static_cast<const std::byte*>(parts[i].iov_base);
      size_t take = std::min(parts[i].iov_len, limit - out.size());
      out.insert(out.end(), data, data + take);
    }
    session.sent(out.size() - before);
  }
  return out;
}

}  // namespace hf::volume::testing
