// The control socket's operations about attestation and Secure Boot: which part answers, and on
// which thread. "measurements" and "boot_files" are answered on the reactor's, at once; but
// "measurements" with "wait_ms" only when the boot is another than "boot", its hand-over another
// than "handed_over", or the time is over.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "keeper/guest_state/guest_state_items.h"
#include "keeper/service/boot_files.h"
#include "keeper/service/control.h"
#include "keeper/service/tpm_attestation.h"
#include "keeper/service/variable_store_editor.h"
#include "keeper/worker.h"

namespace hf::keeper {

class AttestationService final : private sys::Timer {
 public:
  AttestationService(sys::Reactor& reactor, volume::JournalFront& front, GuestStateWriter& writer,
                     Clock& clock)
      : reactor_(reactor),
        writer_(writer),
        front_(front),
        clock_(clock),
        items_(reactor, front, writer) {}
  ~AttestationService();

  // Of a VM with a vTPM, a variable store.
  void set_tpm(std::unique_ptr<TpmAttestation> tpm, vtpm::ExtendRecorder& recorder);
  void set_store(volume::FlashVolume& flash, std::function<size_t()> clients);
  // The disk it boots from, of a VM with a variable store.
  void set_boot_disk(volume::FlashVolume& flash, VolumeId disk, uint64_t size_bytes);

  void start();
  // Waits for what is under way, which may need the reactor: from another thread while it turns.
  void stop();

  static bool takes(const keeper_protocol::Question& question);
  void handle(keeper_protocol::Question question, ControlReply reply);

 private:
  using Answer = std::move_only_function<Result<sys::JsonObject>()>;
  void on_worker(Answer answer, ControlReply reply);
  Result<sys::JsonObject> put(const keeper_protocol::AttestationPut& asked);
  Result<sys::JsonObject> get();
  // Who waits for the boot to change, on the reactor's thread.
  struct BootWait {
    uint64_t from = 0;
    std::string boot;
    bool handed_over = false;
    Micros until;
    ControlReply reply;
  };
  void measurements(const keeper_protocol::Measurements& asked, ControlReply reply);
  void answer_waits();
  void on_timer() override { answer_waits(); }

  sys::Reactor& reactor_;
  GuestStateWriter& writer_;
  volume::JournalFront& front_;
  Clock& clock_;
  GuestStateItems items_;
  std::unique_ptr<TpmAttestation> tpm_;
  vtpm::ExtendRecorder* recorder_ = nullptr;
  std::unique_ptr<VariableStoreEditor> store_;
  std::unique_ptr<BootFiles> boot_files_;
  Worker worker_;
  std::vector<BootWait> waits_;
  // What the recorder posts finds out by it whether this is still there.
  std::shared_ptr<AttestationService*> self_ = std::make_shared<AttestationService*>(this);
};

}  // namespace hf::keeper
