// Guest state in and out of volume 0: what a keeper loads at its start, and the VMGS file it leaves
// at its end.
#pragma once

#include <optional>

#include "crypto/secret.h"
#include "journal/journal.h"
#include "sys/reactor.h"
#include "volume/journal_front.h"

namespace hf::keeper {

struct GuestState {
  Bytes uefi_store;                  // empty: the VM has none
  Bytes tpm_state;                   // empty: the VM has no vTPM; else the newest state blob
  std::optional<Bytes> attestation;  // items.h; none was ever put there
  GuestState() = default;
  GuestState(GuestState&&) = default;
  GuestState& operator=(GuestState&&) = default;
  ~GuestState() {
    crypto::wipe(uefi_store);
    crypto::wipe(tpm_state);
  }
};

// Turns the reactor until the items are read. kCorrupt: the journal is not of a VM this keeper can
// serve.
Result<GuestState> load_guest_state(sys::Reactor& reactor, volume::JournalFront& front);

// One read, turning the reactor until it is done: for start and stop, when nobody else waits.
Status read_now(sys::Reactor& reactor, volume::JournalFront& front, VolumeId volume,
                uint64_t offset, MutableByteSpan to);

// The VMGS v3 projection (docs/formats/vmgs.md), encrypted with the GSP key, replacing `path` as a
// whole.
Status write_projection(const std::string& path, const VmId& vm, const crypto::Secret& gsp_key,
                        const GuestState& state, Epoch epoch, const journal::LineEnd& end);

}  // namespace hf::keeper
