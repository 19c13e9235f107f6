// The vTPM's commits: from the thread that runs libtpms to the journal on the reactor, and back
// when the record is durable. The TPM answers the guest only after that.
#pragma once

#include "journal/journal.h"
#include "sys/reactor.h"
#include "vtpm/engine.h"

namespace hf::keeper {

// Whoever appends to the journal does it through this, so that pending variable-store bytes go
// first.
class GuestStateWriter {
 public:
  // On the reactor's thread. `done` when the record is durable.
  virtual void write_durable(uint64_t offset, ByteSpan data, Completion& done) = 0;

 protected:
  ~GuestStateWriter() = default;
};

class TpmStore final : public vtpm::StateStore {
 public:
  TpmStore(sys::Reactor& reactor, GuestStateWriter& writer) : reactor_(reactor), writer_(writer) {}

  // Blocks until durable. The reactor must be running; it is stopped only after the vTPM's threads.
  Status commit(ByteSpan state_blob) override;

 private:
  sys::Reactor& reactor_;
  GuestStateWriter& writer_;
};

}  // namespace hf::keeper
