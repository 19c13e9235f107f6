#include "keeper/tpm_store.h"

#include "keeper/items.h"

namespace hf::keeper {

Status TpmStore::commit(ByteSpan state_blob) {
  // The blob and the waiter stay where they are: this thread waits for both.
  Waiter waiter;
  reactor_.post(
      [this, state_blob, &waiter] { writer_.write_durable(kTpmStateOffset, state_blob, waiter); });
  return waiter.wait();
}

void TpmStore::Waiter::on_complete(Status status) {
  // Notified under the lock: the waiter is gone as soon as its thread sees the result.
  std::lock_guard lock(mutex_);
  result_ = std::move(status);
  changed_.notify_one();
}

Status TpmStore::Waiter::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return result_.has_value(); });
  return *std::move(result_);
}

}  // namespace hf::keeper
