#include "link/event_loop.h"

#include <algorithm>
#include <cerrno>

namespace hf::link {
namespace {
constexpr size_t kBatchMax = 256;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  loop->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_) return errno_error(errno, "make an epoll instance");
  loop->batch_.resize(kBatchMax);
  return loop;
}

Status EventLoop::watch(int fd, Watcher& watcher) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &watcher}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return errno_error(errno, "watch a descriptor");
  return {};
}

Status EventLoop::watch_level(int fd, Watcher& watcher) {
  epoll_event event{.events = EPOLLIN, .data = {.ptr = &watcher}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return errno_error(errno, "watch a descriptor");
  return {};
}

void EventLoop::forget(int fd, Watcher& watcher) {
  epoll_event none{};
  static_cast<void>(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, &none));
  for (size_t i = 0; i < batch_size_; ++i) {
    if (batch_[i].data.ptr == &watcher) batch_[i].data.ptr = nullptr;
  }
}

// Rounded up, so that the last part of a millisecond is not spun through.
int EventLoop::wait_ms(int wait_ms_max) {
  if (!tasks_.empty() || stopping_) return 0;
  const std::optional<Micros> next = timers_.next();
  if (!next) return wait_ms_max;
  const uint64_t at = now().value;
  if (next->value <= at) return 0;
  const uint64_t left = (next->value - at + 999) / 1000;
  return static_cast<int>(std::min<uint64_t>(
      left, wait_ms_max < 0 ? uint64_t{3'600'000} : static_cast<uint64_t>(wait_ms_max)));
}

void EventLoop::turn(int wait_ms_max) {
  const int got = ::epoll_wait(epoll_.get(), batch_.data(), static_cast<int>(batch_.size()),
                               wait_ms(wait_ms_max));
  HF_ASSERT(got >= 0 || errno == EINTR);
  batch_size_ = got > 0 ? static_cast<size_t>(got) : 0;
  for (size_t i = 0; i < batch_size_; ++i) {
    if (auto* watcher = static_cast<Watcher*>(batch_[i].data.ptr); watcher != nullptr)
      watcher->on_ready(batch_[i].events);
  }
  batch_size_ = 0;
  while (sys::Timer* due = timers_.pop_due(now())) due->on_timer();
  // Those that stand here now: one that comes again waits for the next turn.
  tasks_.push(end_of_round_);
  for (sys::Task* task = tasks_.pop(); task != &end_of_round_; task = tasks_.pop()) task->run();
  graves_.clear();
}

void EventLoop::run() {
  while (!stopping_) turn(-1);
}

}  // namespace hf::link
