// For threads beside the reactor's: waiting for what happens on the reactor.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>

#include "base/storage.h"
#include "sys/reactor.h"

namespace hf::keeper {

// A completion that another thread waits for.
class ThreadWaiter final : public Completion {
 public:
  void on_complete(Status status) override {
    // Notified under the lock: the waiter is gone as soon as its thread sees the result.
    std::lock_guard lock(mutex_);
    result_ = std::move(status);
    changed_.notify_one();
  }
  Status wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return result_.has_value(); });
    return *std::move(result_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Status> result_;
};

// Runs `work` on the reactor's thread and gives what it returns. The reactor must be turning.
template <typename Work>
auto on_reactor(sys::Reactor& reactor, Work work) -> decltype(work()) {
  auto done = std::make_shared<std::promise<decltype(work())>>();
  std::future<decltype(work())> result = done->get_future();
  reactor.post([done, work = std::move(work)] mutable { done->set_value(work()); });
  return result.get();
}

}  // namespace hf::keeper
