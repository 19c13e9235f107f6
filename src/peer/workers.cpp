#include "peer/workers.h"

#include <algorithm>

namespace hf::peer {

Workers::Workers(size_t threads, size_t queue_max)
    : per_site_max_(std::max<size_t>(threads * 2 / 3, 1)), queue_max_(queue_max) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

bool Workers::post(std::move_only_function<void()> work) {
  return enqueue({.site = std::nullopt, .work = std::move(work)});
}

bool Workers::post(SiteId site, std::move_only_function<void()> work) {
  return enqueue({.site = site, .work = std::move(work)});
}

bool Workers::enqueue(Item item) {
  const std::lock_guard lock(mutex_);
  if (finishing_ || queue_.size() >= queue_max_) return false;
  queue_.push_back(std::move(item));
  changed_.notify_one();
  return true;
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
std::list<Workers::Item>::iterator Workers::next() {
  return std::ranges::find_if(queue_, [this](const Item& item) {
    if (!item.site) return true;
    const auto at = at_work_.find(*item.site);
    return at == at_work_.end() || at->second < per_site_max_;
  });
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
    if (item.site) ++at_work_[*item.site];
    lock.unlock();
    item.work();
    item.work = nullptr;  // what it holds may take locks as it goes
    lock.lock();
    if (!item.site) continue;
    if (--at_work_[*item.site] == 0) at_work_.erase(*item.site);
    // What waited for this place may be another thread's by now.
    changed_.notify_all();
  }
}

}  // namespace hf::peer
