// One thread for what must not hold up the reactor: vTPM commands, variable-store edits, what waits
// for the journal. One thing at a time, in the order it was given.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace hf::keeper {

class Worker {
 public:
  using Work = std::move_only_function<void()>;
  ~Worker() { stop(); }

  void start();
  // False once it stops: the work is dropped. Bounded by who asks: one thing a connection.
  bool post(Work work);
  // Ends after the work under way; what waits is dropped. From any thread but its own.
  void stop();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::thread thread_;
};

}  // namespace hf::keeper
