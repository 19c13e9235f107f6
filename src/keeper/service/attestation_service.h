// The control socket's operations about attestation and Secure Boot: which part answers, and on
// which thread. "measurements" and "boot_files" are answered on the reactor's, at once.
#pragma once

#include <memory>

#include "keeper/guest_state/guest_state_items.h"
#include "keeper/service/boot_files.h"
#include "keeper/service/control.h"
#include "keeper/service/tpm_attestation.h"
#include "keeper/service/variable_store_editor.h"
#include "keeper/worker.h"

namespace hf::keeper {

class AttestationService {
 public:
  AttestationService(sys::Reactor& reactor, volume::JournalFront& front, GuestStateWriter& writer,
                     Clock& clock)
      : reactor_(reactor),
        writer_(writer),
        front_(front),
        clock_(clock),
        items_(reactor, front, writer) {}

  // Of a VM with a vTPM, a variable store.
  void set_tpm(std::unique_ptr<TpmAttestation> tpm, const vtpm::ExtendRecorder& recorder);
  void set_store(volume::FlashVolume& flash, std::function<size_t()> clients);
  // The disk it boots from, of a VM with a variable store.
  void set_boot_disk(volume::FlashVolume& flash, VolumeId disk, uint64_t size_bytes);

  void start();
  // Waits for what is under way, which may need the reactor: from another thread while it turns.
  void stop();

  static bool knows(std::string_view op);
  void handle(const std::string& op, sys::JsonObject request, ControlReply reply);

 private:
  Result<sys::JsonObject> answer(const std::string& op, const sys::JsonObject& request);
  Result<sys::JsonObject> put(const sys::JsonObject& request);
  Result<sys::JsonObject> get();

  sys::Reactor& reactor_;
  GuestStateWriter& writer_;
  volume::JournalFront& front_;
  Clock& clock_;
  GuestStateItems items_;
  std::unique_ptr<TpmAttestation> tpm_;
  const vtpm::ExtendRecorder* recorder_ = nullptr;
  std::unique_ptr<VariableStoreEditor> store_;
  std::unique_ptr<BootFiles> boot_files_;
  Worker worker_;
};

}  // namespace hf::keeper
