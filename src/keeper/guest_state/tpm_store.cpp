#include "keeper/guest_state/tpm_store.h"

#include "keeper/guest_state/items.h"
#include "keeper/thread_waiter.h"

namespace hf::keeper {

Status TpmStore::commit(ByteSpan state_blob) {
  // The blob and the waiter stay where they are: this thread waits for both.
  ThreadWaiter waiter;
  reactor_.post(
      [this, state_blob, &waiter] { writer_.write_durable(kTpmStateOffset, state_blob, waiter); });
  return waiter.wait();
}

}  // namespace hf::keeper
