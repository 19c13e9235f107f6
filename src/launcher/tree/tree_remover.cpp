#include "launcher/tree/tree_remover.h"

#include <sys/eventfd.h>

#include <utility>

#include "base/assert.h"

namespace hf::launcher {

TreeRemover::TreeRemover() : done_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  HF_ASSERT(done_fd_.valid());
}

void TreeRemover::begin(VmId vm, Work work) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back({.vm = vm, .work = std::move(work)});
  }
  changed_.notify_all();
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

std::vector<TreeRemover::Done> TreeRemover::take_done() {
  eventfd_t count = 0;
  (void)::eventfd_read(done_fd_.get(), &count);
  std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void TreeRemover::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void TreeRemover::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Task task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Status status = task.work(stopping_);
    lock.lock();
    done_.push_back({.vm = task.vm, .status = std::move(status)});
    (void)::eventfd_write(done_fd_.get(), 1);
  }
}

}  // namespace hf::launcher
