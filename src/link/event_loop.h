// The link's one loop: epoll, timers, tasks. One thread; nothing in it waits but the loop itself.
//
// Descriptors are watched edge-triggered: whoever is told remembers it, and reads or writes until
// the kernel has no more. Work is bounded by a budget a turn; what is left goes on as a Task, after
// everybody else had theirs.
#pragma once

#include <sys/epoll.h>

#include <functional>
#include <memory>
#include <vector>

#include "sys/fd.h"
#include "sys/system_clock.h"
#include "sys/timer_heap.h"

namespace hf::link {

class Watcher {
 public:
  virtual void on_ready(uint32_t events) = 0;  // EPOLLIN, EPOLLOUT, EPOLLHUP …

 protected:
  ~Watcher() = default;
};

class EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // For reading and writing, edge-triggered; the descriptor and the watcher outlive the watch.
  Status watch(int fd, Watcher& watcher);
  // Level-triggered, for reading: a listener of which only so many are accepted a turn.
  Status watch_level(int fd, Watcher& watcher);
  // No event comes after this, not even one that the kernel has already handed out.
  void forget(int fd, Watcher& watcher);

  Micros now() { return clock_.monotonic(); }
  Micros wall_time() { return clock_.wall_time(); }
  void arm(sys::Timer& timer, Micros after) {
    timers_.arm(timer, Micros(now().value + after.value));
  }
  void disarm(sys::Timer& timer) {
    if (timer.armed()) timers_.disarm(timer);
  }
  // Runs it after the events of this turn. No effect if it stands in the queue.
  void defer(sys::Task& task) {
    if (!task.queued()) tasks_.push(task);
  }
  void cancel(sys::Task& task) { tasks_.remove(task); }
  // Destroys it at the end of this turn: it may be on the stack now.
  template <typename T>
  void bury(std::unique_ptr<T> dead) {
    graves_.emplace_back(std::shared_ptr<void>(std::move(dead)));
  }

  void run();  // until stop()
  void stop() { stopping_ = true; }
  void turn(int wait_ms_max);

 private:
  class EndOfRound final : public sys::Task {
   public:
    void run() override {}
  };

  EventLoop() = default;
  int wait_ms(int wait_ms_max);

  sys::SystemClock clock_;
  sys::UniqueFd epoll_;
  sys::TimerHeap timers_;
  sys::TaskQueue tasks_;
  EndOfRound end_of_round_;
  std::vector<epoll_event> batch_;
  size_t batch_size_ = 0;
  std::vector<std::shared_ptr<void>> graves_;
  bool stopping_ = false;
};

constexpr Micros seconds(uint64_t count) { return Micros(count * 1'000'000); }
constexpr Micros millis(uint64_t count) { return Micros(count * 1'000); }

// Without descriptors or memory left, accepting again at once would only burn the processor: the
// listener is let alone for so long.
constexpr Micros kAcceptPause = millis(200);

// Work for later in this turn, or for the next.
class CallbackTask final : public sys::Task {
 public:
  CallbackTask(EventLoop& loop, std::function<void()> work) : loop_(loop), work_(std::move(work)) {}
  ~CallbackTask() { loop_.cancel(*this); }
  void run() override { work_(); }
  void defer() { loop_.defer(*this); }

 private:
  EventLoop& loop_;
  std::function<void()> work_;
};

// A timer that calls back.
class CallbackTimer final : public sys::Timer {
 public:
  CallbackTimer(EventLoop& loop, std::function<void()> work)
      : loop_(loop), work_(std::move(work)) {}
  ~CallbackTimer() { loop_.disarm(*this); }
  void on_timer() override { work_(); }
  void arm(Micros after) { loop_.arm(*this, after); }
  void disarm() { loop_.disarm(*this); }

 private:
  EventLoop& loop_;
  std::function<void()> work_;
};

}  // namespace hf::link
