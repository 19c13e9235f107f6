#include "peer/workers.h"

#include <algorithm>

namespace hf::peer {

Workers::Workers(WorkersLimits limits)
    : limits_(limits), at_work_per_site_max_(std::max<size_t>(limits.threads * 2 / 3, 1)) {
  for (size_t i = 0; i < limits_.threads; ++i) threads_.emplace_back([this] { run(); });
}

bool Workers::post(std::move_only_function<void()> work) {
  return enqueue({.site = std::nullopt, .work = std::move(work)});
}

bool Workers::post(SiteId site, uint64_t ticket, std::move_only_function<void()> work) {
  return enqueue({.site = site, .ticket = ticket, .work = std::move(work)});
}

bool Workers::enqueue(Item item) {
  const std::lock_guard lock(mutex_);
  if (finishing_ || queue_.size() >= limits_.queue_max) return false;
  if (item.site) {
    Load& load = loads_[*item.site];
    if (load.waiting >= limits_.queue_per_site_max) return false;
    ++load.waiting;
  }
  queue_.push_back(std::move(item));
  changed_.notify_one();
  return true;
}

template <typename Which>
void Workers::drop_if(Which which) {
  Queue dropped;  // goes without the lock: what it holds may take others
  const std::lock_guard lock(mutex_);
  for (auto at = queue_.begin(); at != queue_.end();) {
    const auto item = at++;
    if (!item->site || !which(*item)) continue;
    --loads_[*item->site].waiting;
    forget_idle(*item->site);
    dropped.splice(dropped.end(), queue_, item);
  }
  // finish() waits for an empty queue.
  if (!dropped.empty()) changed_.notify_all();
}

void Workers::drop(uint64_t ticket) {
  drop_if([ticket](const Item& item) { return item.ticket == ticket; });
}

void Workers::drop_all() {
  drop_if([](const Item&) { return true; });
}

void Workers::finish() {
  {
    const std::lock_guard lock(mutex_);
    finishing_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

// The oldest whose site has a thread left.
Workers::Queue::iterator Workers::next() {
  return std::ranges::find_if(queue_, [this](const Item& item) {
    return !item.site || loads_.at(*item.site).at_work < at_work_per_site_max_;
  });
}

void Workers::forget_idle(SiteId site) {
  const auto at = loads_.find(site);
  if (at->second.waiting == 0 && at->second.at_work == 0) loads_.erase(at);
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock,
                  [this] { return next() != queue_.end() || (finishing_ && queue_.empty()); });
    if (queue_.empty()) return;
    const auto at = next();
    Item item = std::move(*at);
    queue_.erase(at);
    if (item.site) {
      --loads_.at(*item.site).waiting;
      ++loads_.at(*item.site).at_work;
    }
    lock.unlock();
    item.work();
    item.work = nullptr;  // what it holds may take locks as it goes
    lock.lock();
    if (!item.site) continue;
    --loads_.at(*item.site).at_work;
    forget_idle(*item.site);
    // What waited for this place may be another thread's by now.
    changed_.notify_all();
  }
}

}  // namespace hf::peer
