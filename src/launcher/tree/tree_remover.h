// Removes VMs' trees on a thread of its own: a large one takes seconds, and the launcher's loop has
// fences, stops and starts to answer meanwhile.
//
// One tree after another. All but the work belongs to the owner's thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "sys/fd.h"

namespace hf::launcher {

class TreeRemover {
 public:
  // Ends soon, with an error, once the flag is set.
  using Work = std::function<Status(const std::atomic<bool>& stop)>;

  TreeRemover();
  ~TreeRemover() { stop(); }
  TreeRemover(const TreeRemover&) = delete;
  TreeRemover& operator=(const TreeRemover&) = delete;

  void begin(VmId vm, Work work);
  // Readable: take_done() has something to give.
  int done_fd() const { return done_fd_.get(); }
  struct Done {
    VmId vm;
    Status status;
  };
  std::vector<Done> take_done();
  // What is under way ends with the entry that it is at, what waits is not begun.
  void stop();

 private:
  struct Task {
    VmId vm;
    Work work;
  };
  void run();

  const sys::UniqueFd done_fd_;  // an event descriptor
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> waiting_;
  std::vector<Done> done_;
  std::thread thread_;  // from the first tree on
};

}  // namespace hf::launcher
