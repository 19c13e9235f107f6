// What code that lives on an event loop needs of it, apart from I/O: "later", "at that time".
// The reactor is one; tests drive one by hand. Everything here is for the loop's own thread.
#pragma once

#include <cstddef>

#include "base/clock.h"

namespace hf::sys {

// Something to run later on the loop. Intrusive: it may stand in the queue once, and must outlive
// its run or be cancelled.
class Task {
 public:
  virtual void run() = 0;
  bool queued() const { return queued_; }

 protected:
  Task() = default;
  ~Task() { HF_ASSERT(!queued_); }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

 private:
  friend class TaskQueue;
  Task* next_ = nullptr;
  bool queued_ = false;
};

// First in, first out.
class TaskQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  void push(Task& task) {
    HF_ASSERT(!task.queued_);
    task.queued_ = true;
    task.next_ = nullptr;
    (tail_ == nullptr ? head_ : tail_->next_) = &task;
    tail_ = &task;
  }
  Task* pop() {
    Task* task = head_;
    if (task == nullptr) return nullptr;
    head_ = task->next_;
    if (head_ == nullptr) tail_ = nullptr;
    task->queued_ = false;
    return task;
  }
  void remove(Task& task) {
    if (!task.queued_) return;
    Task* before = nullptr;
    for (Task* at = head_; at != &task; at = at->next_) before = at;
    (before == nullptr ? head_ : before->next_) = task.next_;
    if (tail_ == &task) tail_ = before;
    task.queued_ = false;
  }

 private:
  Task* head_ = nullptr;
  Task* tail_ = nullptr;
};

// Fires once, at or after its time.
class Timer {
 public:
  virtual void on_timer() = 0;
  bool armed() const { return slot_ != kNotArmed; }

 protected:
  Timer() = default;
  ~Timer() { HF_ASSERT(!armed()); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  friend class TimerHeap;
  static constexpr size_t kNotArmed = ~size_t{0};
  Micros at_{};
  size_t slot_ = kNotArmed;
};

// A time that does not come.
inline constexpr Micros kForever{UINT64_MAX};

class Scheduler {
 public:
  virtual ~Scheduler() = default;
  virtual Micros now() = 0;  // monotonic
  // Runs `task` from the loop, after the current callback has returned.
  virtual void defer(Task& task) = 0;
  virtual void cancel(Task& task) = 0;
  // Runs `task` once in every turn of the loop, before it waits, until end_turns(). In the order
  // they came; none is deferred meanwhile (a task stands in one place).
  virtual void each_turn(Task& task) = 0;
  virtual void end_turns(Task& task) = 0;         // no effect if it has no turns
  virtual void arm(Timer& timer, Micros at) = 0;  // moves it if it is armed
  virtual void disarm(Timer& timer) = 0;          // no effect if it is not armed
};

}  // namespace hf::sys
