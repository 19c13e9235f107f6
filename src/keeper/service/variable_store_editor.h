// Secure Boot's variables of one VM, read and edited by the host. From a thread beside the
// reactor's.
//
// QEMU reads its flash once and keeps it: an edit under a connected QEMU would be lost, and would
// tear the store when QEMU writes the next byte. So edits are refused while anyone is connected,
// and whoever edits starts QEMU only after the answer. An edit is one record of the journal: after
// a crash the store is the old one or the new one.
#pragma once

#include <functional>

#include "base/clock.h"
#include "keeper/guest_state/guest_state_items.h"
#include "keeper_protocol/control.h"
#include "volume/flash_volume.h"

namespace hf::keeper {

class VariableStoreEditor {
 public:
  struct Parts {
    sys::Reactor& reactor;
    volume::FlashVolume& flash;       // on the reactor's thread
    std::function<size_t()> clients;  // of the store's export; likewise
    GuestStateWriter& writer;         // likewise
    GuestStateItems& items;
    Clock& clock;
  };
  explicit VariableStoreEditor(Parts parts) : parts_(std::move(parts)) {}

  // What each takes and gives: keeper_protocol/control.h, the question of that name.
  Result<sys::JsonObject> show();
  Result<sys::JsonObject> edit(const std::vector<keeper_protocol::VariableChange>& wanted);
  Status save(const std::string& name);
  Status restore(const std::string& name);
  Status forget(const std::string& name);

 private:
  Bytes image_now();
  Result<Bytes> image_at_rest();
  Status replace(const Bytes& base, Bytes image);
  Parts parts_;
};

}  // namespace hf::keeper
