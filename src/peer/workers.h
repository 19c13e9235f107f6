// A few threads and a bounded queue of work for them; and one thread that runs things in order.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/ids.h"

namespace hf::peer {

struct WorkersLimits {
  size_t threads = 1;
  size_t queue_max = 0;           // of all that waits
  size_t queue_per_site_max = 0;  // of a site's
};

class Workers {
 public:
  explicit Workers(WorkersLimits limits);
  ~Workers() { finish(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False: the queue is full, or it is over.
  bool post(std::move_only_function<void()> work);
  // Work for a site: of one at most two thirds of the threads, at least one, are at it at a time,
  // and so much waits as the limits say; that of others goes on. `ticket` is for drop().
  bool post(SiteId site, uint64_t ticket, std::move_only_function<void()> work);
  // What waits under that ticket, or for any site, is not done. What has begun goes on.
  void drop(uint64_t ticket);
  void drop_all();
  // Runs what is queued and ends the threads. Not from one of them.
  void finish();

 private:
  struct Item {
    std::optional<SiteId> site;
    uint64_t ticket = 0;
    std::move_only_function<void()> work;
  };
  struct Load {  // of a site
    size_t waiting = 0;
    size_t at_work = 0;
  };
  using Queue = std::list<Item>;

  bool enqueue(Item item);
  template <typename Which>
  void drop_if(Which which);
  Queue::iterator next();
  void forget_idle(SiteId site);
  void run();

  const WorkersLimits limits_;
  const size_t at_work_per_site_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Queue queue_;
  std::map<SiteId, Load> loads_;
  bool finishing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hf::peer
