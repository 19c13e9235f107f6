// The VM's attestation key, and what travels with the VM's journal.
#include "base/base64.h"
#include "control/attest/attestation_inner.h"
#include "control/core/log.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr auto kKeeperLimit = 3s;
constexpr auto kAdoptLimit = 10s;  // nothing runs yet, and without it nothing will
}  // namespace

// Enrolment: the vault challenges the vTPM that holds the endorsement key to prove that the
// attestation key is in it too (TPM 2.0 Library, part 1, "Credential Protection"), then pins the
// key and certifies it. A key that another site has certified comes with the VM's journal.
Result<vault::AttestationPin> Attestation::pinned(const VmRow& row,
                                                  const std::string& control_socket) {
  Result<vault::AttestationPin> pin = services_.vault.attestation_pinned(row.id);
  if (pin.ok() || pin.error().code != ErrorCode::kNotFound) return pin;
  TRY(refuse_while_pending(row.id));
  std::string stored = TRY(services_.catalog->attestation(row.id)).identity;
  if (!stored.empty()) {
    AttestationIdentity identity = TRY(parse_identity(stored));
    return services_.vault.attestation_adopt(row.id, identity.certificate, identity.ak_public);
  }
  const keeper_protocol::Client keeper(control_socket);
  sys::JsonObject key = TRY(keeper.ask(keeper_protocol::AttestationKey{}, kKeeperLimit));
  Bytes ak = TRY(base64_decode(TRY(sys::get_string(key, "ak_public"))));
  Bytes ek = TRY(base64_decode(TRY(sys::get_string(key, "ek_public"))));
  Bytes ek_certificate = TRY(base64_decode(TRY(sys::get_string_or(key, "ek_certificate", ""))));
  vault::AttestationChallenge challenge =
      TRY(services_.vault.attestation_enroll(row.id, ek, ek_certificate, ak));
  keeper_protocol::Secret opened = TRY(keeper.ask(
      keeper_protocol::ActivateCredential{.id_object = challenge.id_object,
                                          .encrypted_secret = challenge.encrypted_secret},
      kKeeperLimit));
  pin = TRY(services_.vault.attestation_certify(row.id, challenge.id, opened.secret));
  event(row, Severity::kInfo, "attestation.enrolled",
        "the vTPM's attestation key " + to_hex(pin->ak_name).substr(0, 16) +
            "… was enrolled and certified");
  return pin;
}

Status Attestation::forget_key(const VmRow& row, const std::string& actor) {
  // An appraisal under way would remember it again.
  std::unique_lock<std::timed_mutex> turn;
  std::shared_ptr<Watched> watched = find(row.id);
  if (watched != nullptr) turn = TRY(watched->turn());
  vault::AttestationPin pin = TRY(services_.vault.attestation_pinned(row.id));
  TRY(services_.catalog->audit(actor, "attestation key forgotten", row.name, to_hex(pin.ak_name)));
  // First what would bring it back: pinned() adopts the key that is remembered here.
  TRY(services_.catalog->set_attestation(row.id, AttestationPart::kIdentity, ""));
  TRY(services_.vault.attestation_forget(row.id));
  event(row, Severity::kWarning, "attestation.forgotten",
        "the attestation key " + to_hex(pin.ak_name).substr(0, 16) +
            "… was forgotten; the next appraisal enrols the vTPM's");
  travel(row);
  return {};
}

void Attestation::remember_identity(const VmRow& row, const vault::AttestationPin& pin,
                                    const Gathered& seen) {
  AttestationIdentity identity{.ak_public = pin.ak_public,
                               .ak_name = pin.ak_name,
                               .certificate = pin.certificate_pem,
                               .certified_by = pin.certified_by};
  Result<AttestationRow> stored = services_.catalog->attestation(row.id);
  if (stored.ok() && !stored->identity.empty()) {
    Result<AttestationIdentity> old = parse_identity(stored->identity);
    if (old.ok()) {
      identity.reset_count = old->reset_count;
      identity.boot_id = old->boot_id;
    }
  }
  if (seen.quote) {
    identity.reset_count = seen.quote->clock.reset_count;
    identity.boot_id = seen.keeper.record.boot_id;
  }
  std::string text = sys::to_text(to_json(identity));
  if (stored.ok() && stored->identity == text) return;
  Status kept = services_.catalog->set_attestation(row.id, AttestationPart::kIdentity, text);
  if (!kept.ok()) log_error(kept.error().describe());
}

Result<attestation::Policy> Attestation::stored_policy(VmId vm) {
  std::string text = TRY(services_.catalog->attestation(vm)).policy;
  return text.empty() ? attestation::built_in_policy("linux") : attestation::parse_policy(text);
}

Result<attestation::Baseline> Attestation::stored_baseline(VmId vm) {
  std::string text = TRY(services_.catalog->attestation(vm)).baseline;
  if (text.empty()) return attestation::Baseline{};
  return attestation::parse_baseline(text);
}

Result<attestation::Baseline> Attestation::change_baseline(VmId vm, const BaselineChange& change) {
  std::lock_guard lock(locks(vm).baseline);
  attestation::Baseline baseline = TRY(stored_baseline(vm));
  TRY(change(baseline));
  TRY(services_.catalog->set_attestation(vm, AttestationPart::kBaseline,
                                         TRY(baseline_text(baseline))));
  return baseline;
}

Status Attestation::put_in_journal(const VmRow& row) {
  TRY(refuse_while_pending(row.id));
  std::lock_guard lock(locks(row.id).journal);
  AttestationRow stored = TRY(services_.catalog->attestation(row.id));
  Bytes packet = TRY(pack_attestation(stored, TRY(services_.catalog->verdicts(row.id))));
  const keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
  TRY(keeper.ask(keeper_protocol::AttestationPut{.data = std::move(packet)}, kKeeperLimit));
  return {};
}

void Attestation::travel(const VmRow& row) {
  std::shared_ptr<Watched> watched = find(row.id);
  if (watched == nullptr) return;
  Status put = put_in_journal(row);
  // A keeper that restarts is asked again in a second; what it can never take is told once.
  watched->travel_due = !put.ok() && (put.error().code == ErrorCode::kUnavailable ||
                                      put.error().code == ErrorCode::kTimeout);
  if (watched->travel_due) watchers_.wake(watched->watcher);
  if (!put.ok() && !watched->travel_due)
    log_error("VM " + row.name + ": " + put.error().describe());
}

// What is in the catalog of a VM that was taken over is not the VM's: it must not overwrite what
// came in the journal, nor may a key be enrolled beside the one that came.
Status Attestation::refuse_while_pending(VmId vm) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  if (!row.adopt_pending) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "what attestation knew of VM \"" + row.name +
                        "\" was not taken out of its journal yet",
               .effect = "nothing is learned, enrolled or put into the journal in its place",
               .mend = "holdfast vm stop " + row.name + "; holdfast vm start " + row.name};
}

Status Attestation::adopt_from_journal(const VmRow& row) {
  auto adopt = [&]() -> Status {
    const keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
    keeper_protocol::Stored stored =
        TRY(keeper.ask(keeper_protocol::AttestationGet{}, kAdoptLimit));
    // Taken over before its first verdict: there was nothing to send along.
    if (!stored.data) return services_.catalog->end_adoption(row.id);
    AttestationPacket came = TRY(unpack_attestation(*stored.data));
    TRY(services_.catalog->replace_attestation(row.id, came.row, came.verdicts));
    verdicts_.forget(row.id);
    return {};
  };
  Status adopted = adopt();
  if (adopted.ok()) return {};
  event(row, Severity::kWarning, "attestation.not_adopted",
        "policy, baseline and history did not come with the VM: " + adopted.error().cause);
  return Error{.code = adopted.error().code,
               .cause = "the policy and baseline in the VM's journal could not be taken over: " +
                        adopted.error().cause,
               .effect = "the VM was not started: whatever it boots would be taken for right",
               .mend = "holdfast vm start " + row.name + "; to give up what came in the journal " +
                       "and learn the next boot: holdfast attest baseline learn " + row.name};
}

}  // namespace hf::control
