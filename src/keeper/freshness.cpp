#include "keeper/freshness.h"

#include <chrono>

namespace hf::keeper {
namespace {
constexpr std::chrono::milliseconds kInterval{900};

vault::Freshness freshness_of(const journal::LineEnd& durable, Micros now) {
  return {.position = durable.position, .chain = durable.chain, .time = now};
}
}  // namespace

void FreshnessReporter::start() {
  HF_ASSERT(!thread_.joinable());
  thread_ = std::thread([this] { run(); });
}

void FreshnessReporter::report(const journal::LineEnd& durable, Micros now) {
  std::lock_guard lock(mutex_);
  next_ = freshness_of(durable, now);
  changed_.notify_one();
}

Status FreshnessReporter::report_now(const journal::LineEnd& durable, Micros now) {
  return vault_.put_freshness(vm_, freshness_of(durable, now));
}

void FreshnessReporter::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void FreshnessReporter::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait(lock, [this] { return stopping_ || next_.has_value(); });
    if (stopping_) return;
    const vault::Freshness newest = *next_;
    next_.reset();
    lock.unlock();
    // A vault that is away for a moment is told next time; the record only ages.
    (void)vault_.put_freshness(vm_, newest).ok();
    lock.lock();
    changed_.wait_for(lock, kInterval, [this] { return stopping_; });
  }
}

}  // namespace hf::keeper
