// Many watches on few threads: each is a step that runs when its descriptor is readable, when its
// time has come, or when it is woken; never two at once of one watch. While nothing is due nobody
// wakes up, however many there are.
//
// Thread-safe. A step may block for a while: then others of its pool go on.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "sys/fd.h"

namespace hf::control {

class Watchers {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // When the step is to run again. Neither: when woken.
  struct Next {
    int fd = -1;  // borrowed; open until the next step or the watch's end
    Time due = Time::max();
    bool over = false;  // never again
  };
  using Step = std::function<Next()>;

  explicit Watchers(size_t threads);
  ~Watchers() { stop(); }
  Watchers(const Watchers&) = delete;
  Watchers& operator=(const Watchers&) = delete;

  // Steps at once. The step, and what it holds, goes when the watch is over.
  uint64_t add(Step step);
  void wake(uint64_t id);
  // Returns at once: a step that runs now goes on to its end.
  void remove(uint64_t id);
  void stop();  // waits for the steps that run

 private:
  struct Watch {
    uint64_t id = 0;
    Step step;
    Next next;
    bool queued = false;
    bool running = false;
    bool woken = false;  // while it ran
    bool removed = false;
  };
  void poll_loop();
  void work_loop();
  void queue(const std::shared_ptr<Watch>& watch);
  void arm(const std::shared_ptr<Watch>& watch);
  int queue_due();

  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::map<uint64_t, std::shared_ptr<Watch>> watches_;
  std::deque<std::shared_ptr<Watch>> ready_;
  uint64_t next_id_ = 1;
  bool stopping_ = false;
  sys::UniqueFd epoll_;
  sys::UniqueFd wake_;
  std::thread poller_;
  std::vector<std::thread> workers_;
};

}  // namespace hf::control
