// Items of volume 0, read and written from a thread beside the reactor's. Blocking.
#pragma once

#include "keeper/guest_state/item_formats.h"
#include "keeper/guest_state/tpm_store.h"
#include "volume/journal_front.h"

namespace hf::keeper {

class GuestStateItems {
 public:
  GuestStateItems(sys::Reactor& reactor, volume::JournalFront& front, GuestStateWriter& writer)
      : reactor_(reactor), front_(front), writer_(writer) {}

  // Durable when it returns. Above journal::kRecordDataMax it is several records, in order.
  Status write(uint64_t offset, ByteSpan bytes);
  Result<Bytes> read(uint64_t offset, size_t size);

  // kLimit above kAttestationDataMax.
  Status put_attestation(ByteSpan data);
  Result<std::optional<Bytes>> attestation();

  Result<std::vector<SavedStore>> saved_stores();
  // Replaces one of the same name. kLimit: there are kSavedStoresMax others.
  Status save_store(const std::string& name, ByteSpan image, Micros now);
  Result<Bytes> saved_store(const std::string& name);  // kNotFound, kCorrupt
  Status forget_store(const std::string& name);        // kNotFound

 private:
  sys::Reactor& reactor_;
  volume::JournalFront& front_;
  GuestStateWriter& writer_;
};

}  // namespace hf::keeper
