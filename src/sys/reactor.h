// Reactor: one thread, one io_uring, no blocking call between two events.
//
//   loop: run posted and deferred work, due timers -> submit what that asked for and wait -> hand
//         out completions -> again
//
// An Operation is one request that may be in the kernel once at a time; it is a member of whatever
// asked (a connection's receive, a file write), so that a steady state allocates nothing. Its
// result arrives by on_result() from the loop, never from inside the call that started it. The
// kernel may hold pointers into it until then: whoever owns an Operation in flight cancels it and
// waits for its result before it goes away (the destructor asserts).
//
// The ring is made disabled, restricted to the operations below, then enabled. A seccomp filter
// does not see what a ring does, but a ring without SOCKET and CONNECT can only work on descriptors
// that the process already holds; one for files (Ring::kFiles) also makes, renames and removes
// files, where Landlock lets the process. A process that serves no files asks for none.
//
// All calls are for the thread that created the reactor, except post() and stop().
#pragma once

#include <liburing.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "sys/fd.h"
#include "sys/system_clock.h"
#include "sys/timer_heap.h"

namespace hf::sys {

class Operation {
 public:
  // A count or descriptor, or a negative errno.
  virtual void on_result(int32_t result) = 0;
  bool in_flight() const { return in_flight_; }

 protected:
  Operation() = default;
  ~Operation() { HF_ASSERT(!in_flight_); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

 private:
  friend class Reactor;
  bool in_flight_ = false;
};

class Reactor final : public Scheduler {
 public:
  enum class Ring : uint8_t { kDescriptors, kFiles };
  // kUnsupported with a clear cause if the kernel offers no io_uring or refuses it.
  static Result<std::unique_ptr<Reactor>> create(Ring may = Ring::kFiles);
  ~Reactor() override;

  // Sockets. Short counts are the caller's business: a stream gives what it has.
  void accept(int listener, Operation& operation);  // the new descriptor, close-on-exec
  void receive(int socket, MutableByteSpan to, Operation& operation);
  void send(int socket, ByteSpan from, Operation& operation);
  void send_message(int socket, const msghdr& message,
                    Operation& operation);  // stays valid till then
  void poll_readable(int fd, Operation& operation);

  // Files.
  void read(int file, uint64_t offset, MutableByteSpan to, Operation& operation);
  void write(int file, uint64_t offset, ByteSpan from, Operation& operation);
  void sync_data(int file, Operation& operation);

  // Names in a held directory. `path` names no other directory and stays valid until then.
  void create_file(int directory, const char* path, Operation& operation);  // the new descriptor
  void unlink_file(int directory, const char* path, Operation& operation);
  void rename_file(int directory, const char* from, const char* to, Operation& operation);
  void sync_all(int file, Operation& operation);  // of a directory: its names

  // The operation then ends with -ECANCELED, or with its result if that came first.
  void cancel_operation(Operation& operation);

  Micros now() override { return clock_.monotonic(); }
  void defer(Task& task) override { deferred_.push(task); }
  void cancel(Task& task) override { deferred_.remove(task); }
  void each_turn(Task& task) override { turns_.push_back(&task); }
  void end_turns(Task& task) override { std::erase(turns_, &task); }
  void arm(Timer& timer, Micros at) override { timers_.arm(timer, at); }
  void disarm(Timer& timer) override { timers_.disarm(timer); }

  // From any thread: runs `work` on the loop soon, in order of posting.
  void post(std::move_only_function<void()> work);
  // From any thread: run() returns after the current round.
  void stop();

  void run();                   // until stop()
  void run_once(Micros until);  // one round; waits until then at most
  // Rounds until `holds()`, however long each waits. It is asked after everything that runs here;
  // who makes it true on another thread has to wake the loop: post() or stop().
  template <typename Condition>
  void run_until(Condition holds) {
    while (!holds()) {
      const bool more = run_work();
      finish_round(more || holds() ? Micros(0) : kForever);
    }
  }

 private:
  // Reads the eventfd that wakes the loop.
  class Waker final : public Operation {
   public:
    explicit Waker(Reactor& reactor) : reactor_(reactor) {}
    void on_result(int32_t result) override;
    Reactor& reactor_;
    uint64_t count_ = 0;
  };

  class EndOfRound final : public Task {
   public:
    void run() override {}
  };

  Reactor() : waker_(*this) {}
  Status set_up(Ring may);
  io_uring_sqe& next_entry();
  io_uring_sqe& start(Operation& operation);
  void run_posted();
  bool run_work();
  void finish_round(Micros until);
  bool stopping();
  bool run_ready();
  void run_due_timers();
  void wait(Micros until);
  void hand_out_completions();
  void wake();

  SystemClock clock_;
  io_uring ring_{};
  bool ring_ready_ = false;
  bool closing_ = false;
  UniqueFd wake_fd_;
  Waker waker_;
  TaskQueue deferred_;
  std::vector<Task*> turns_;
  EndOfRound end_of_round_;
  TimerHeap timers_;
  size_t operations_in_flight_ = 0;

  std::mutex posted_mutex_;
  std::vector<std::move_only_function<void()>> posted_;  // guarded by posted_mutex_
  bool stopping_ = false;                                // guarded by posted_mutex_
};

}  // namespace hf::sys
