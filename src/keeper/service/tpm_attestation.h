// The VM's TPM questioned by the host: its keys, its PCRs, quotes. From a thread beside the
// reactor's.
//
// The enrolled attestation key's name comes from the vault. A TPM that has another one is another
// TPM: it is not asked to quote (kWrongKey).
#pragma once

#include <chrono>
#include <optional>

#include "keeper_protocol/control.h"
#include "vault/protocol/client.h"
#include "vtpm/attestation_key.h"
#include "vtpm/extend_recorder.h"

namespace hf::keeper {

class TpmAttestation {
 public:
  // For the vault to name the key. Whoever asks the keeper waits for 3 s, of which a busy TPM may
  // take 2: a vault that hangs leaves enough for it.
  static constexpr std::chrono::milliseconds kVaultWithin{500};

  struct Parts {
    vtpm::Engine& engine;
    const vtpm::ExtendRecorder& recorder;
    vault::KeyClient vault;  // asked within kVaultWithin
    VmId vm;
    Rng& rng;
  };
  explicit TpmAttestation(Parts parts) : parts_(std::move(parts)) {}

  // Before the guest: powers the TPM on for a moment, and makes the attestation key of a TPM that
  // is older than such keys.
  Status learn_identity();

  // What each takes and gives: keeper_protocol/control.h, the question of that name.
  Result<sys::JsonObject> pcrs();
  Result<sys::JsonObject> attestation_key();
  Result<keeper_protocol::Secret> activate_credential(
      const keeper_protocol::ActivateCredential& asked);
  Result<sys::JsonObject> quote(const keeper_protocol::Quote& asked);

 private:
  using Work = std::function<Status(const vtpm::SendCommand&)>;
  Status with_tpm(const Work& work);
  void refresh_pin();
  Status know_identity(const vtpm::SendCommand& send);
  Status refuse_swapped_key() const;

  Parts parts_;
  std::optional<vtpm::TpmIdentity> identity_;
  std::optional<Bytes> pinned_name_;
};

// {"boot":…,"total":…,"extends":[…]}: one page of the record.
sys::JsonObject measurements_page(const vtpm::ExtendRecorder& recorder, uint64_t from);

}  // namespace hf::keeper
