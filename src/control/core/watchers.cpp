#include "control/core/watchers.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace hf::control {

namespace {
constexpr int kEventsMax = 64;
constexpr uint64_t kWakeId = 0;
}  // namespace

Watchers::Watchers(size_t threads)
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  HF_ASSERT(epoll_.valid() && wake_.valid());
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeId}};
  HF_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0);
  poller_ = std::thread([this] { poll_loop(); });
  for (size_t i = 0; i < threads; ++i) workers_.emplace_back([this] { work_loop(); });
}

void Watchers::stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  ::eventfd_write(wake_.get(), 1);
  work_ready_.notify_all();
  poller_.join();
  for (std::thread& worker : workers_) worker.join();
}

uint64_t Watchers::add(Step step) {
  auto watch = std::make_shared<Watch>();
  std::lock_guard lock(mutex_);
  watch->id = next_id_++;
  watch->step = std::move(step);
  watches_[watch->id] = watch;
  queue(watch);
  return watch->id;
}

void Watchers::wake(uint64_t id) {
  std::lock_guard lock(mutex_);
  auto found = watches_.find(id);
  if (found == watches_.end()) return;
  if (found->second->running) {
    found->second->woken = true;
  } else {
    queue(found->second);
  }
}

void Watchers::remove(uint64_t id) {
  std::lock_guard lock(mutex_);
  auto found = watches_.find(id);
  if (found == watches_.end()) return;
  std::shared_ptr<Watch> watch = found->second;
  watch->removed = true;
  watches_.erase(found);
  if (watch->next.fd >= 0 && !watch->running && !watch->queued) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->next.fd, nullptr);
  }
}

// Under the mutex. Its descriptor is not looked at while the step runs.
void Watchers::queue(const std::shared_ptr<Watch>& watch) {
  if (watch->queued || watch->removed) return;
  if (watch->next.fd >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->next.fd, nullptr);
  watch->next = {};
  watch->queued = true;
  ready_.push_back(watch);
  work_ready_.notify_one();
}

// Under the mutex, after a step.
void Watchers::arm(const std::shared_ptr<Watch>& watch) {
  if (watch->next.fd >= 0) {
    epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.u64 = watch->id}};
    // One that cannot be watched is looked at when its time comes; without one, at once.
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watch->next.fd, &event) != 0) {
      watch->next.fd = -1;
      watch->next.due = std::min(watch->next.due,
                                 std::chrono::steady_clock::now() + std::chrono::milliseconds(200));
    }
  }
  // The poller sleeps until what was due before.
  if (watch->next.due != Time::max()) ::eventfd_write(wake_.get(), 1);
}

// Milliseconds until the next is due, -1: none is.
int Watchers::queue_due() {
  std::lock_guard lock(mutex_);
  if (stopping_) return 0;
  Time now = std::chrono::steady_clock::now();
  Time next = Time::max();
  for (auto& [id, watch] : watches_) {
    if (watch->running || watch->queued) continue;
    if (watch->next.due <= now) {
      queue(watch);
    } else {
      next = std::min(next, watch->next.due);
    }
  }
  if (next == Time::max()) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
  return static_cast<int>(std::min<int64_t>(left, 3'600'000));
}

void Watchers::poll_loop() {
  for (;;) {
    int timeout = queue_due();
    epoll_event events[kEventsMax];
    int count = ::epoll_wait(epoll_.get(), events, kEventsMax, timeout);
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 == kWakeId) {
        eventfd_t value = 0;
        ::eventfd_read(wake_.get(), &value);
      } else if (auto found = watches_.find(events[i].data.u64); found != watches_.end()) {
        if (!found->second->running) queue(found->second);
      }
    }
  }
}

void Watchers::work_loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_ready_.wait(lock, [this] { return stopping_ || !ready_.empty(); });
    if (stopping_) return;
    std::shared_ptr<Watch> watch = ready_.front();
    ready_.pop_front();
    watch->queued = false;
    if (watch->removed) continue;
    watch->running = true;
    lock.unlock();
    Next next = watch->step();
    lock.lock();
    watch->running = false;
    if (watch->removed || next.over) {
      watches_.erase(watch->id);
      Step gone = std::move(watch->step);  // what it holds may take a lock of its own when it goes
      lock.unlock();
      gone = nullptr;
      lock.lock();
      continue;
    }
    watch->next = next;
    if (std::exchange(watch->woken, false)) {
      watch->next.fd = -1;
      queue(watch);
    } else {
      arm(watch);
    }
  }
}

}  // namespace hf::control
