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

class Workers {
 public:
  Workers(size_t threads, size_t queue_max);
  ~Workers() { finish(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False: the queue is full, or it is over.
  bool post(std::move_only_function<void()> work);
  // Work for a site: of one at most two thirds of the threads, at least one, are at it at a time;
  // that of others goes on.
  bool post(SiteId site, std::move_only_function<void()> work);
  // Runs what is queued and ends the threads. Not from one of them.
  void finish();

 private:
  struct Item {
    std::optional<SiteId> site;
    std::move_only_function<void()> work;
  };

  bool enqueue(Item item);
  std::list<Item>::iterator next();
  void run();

  const size_t per_site_max_;
  const size_t queue_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Item> queue_;
  std::map<SiteId, size_t> at_work_;  // threads
  bool finishing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hf::peer
