// Which attestation key is which VM's.

#include <fmt/format.h>

#include <algorithm>

#include "attestation/tpm/credential.h"
#include "attestation/tpm/quote.h"
#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr std::string_view kNothingPinned = "no attestation key was enrolled; nothing was changed";
constexpr const char* kEkUsage = "2.23.133.8.1";  // tcg-kp-EKCertificate
constexpr const char* kAkUsage = "2.23.133.8.3";  // tcg-kp-AIKCertificate
constexpr size_t kChallengesMax = 64;
constexpr uint64_t kChallengeLifeUs = 120'000'000;
constexpr size_t kSecretSize = 32;  // the longest that a SHA-256 name's EK takes

Error refused(ErrorCode code, std::string cause, std::string mend) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = std::string(kNothingPinned),
               .mend = std::move(mend)};
}

std::string uri_of(const VmId& vm) { return "holdfast:vm:" + vm.hex(); }

// Names an AK in the audit log.
KeyId audit_id(ByteSpan ak_name) {
  KeyId id;
  std::ranges::copy_n(crypto::sha256(ak_name).bytes.begin(), sizeof id.bytes, id.bytes.begin());
  return id;
}

Result<crypto::SpkiKey> spki_of(const attestation::TpmPublic& key) {
  return crypto::SpkiKey::adopt(TRY(attestation::openssl_key(key)));
}

Result<attestation::TpmPublic> parse_ak(ByteSpan ak_public) {
  attestation::TpmPublic ak =
      TRY_CONTEXT(attestation::parse_public(ak_public), "the attestation key");
  TRY_CONTEXT(attestation::check_attestation_key(ak), "the attestation key");
  return ak;
}

}  // namespace

// ---- what is known of a VM

Status Vault::store_attestation(const VmId& vm, const AttestationRecord& record) {
  Writer clear;
  clear.id(vm);
  clear.id(record.ek_fingerprint);
  clear.u8(record.pin.has_value() ? 1 : 0);
  if (record.pin.has_value()) encode(clear, *record.pin);
  return directory_.replace(attestation_file_name(vm),
                            seal_file(FileKind::kAttestation, site_.kek, clear.bytes(), {}, rng_));
}

Result<Vault::AttestationRecord> Vault::load_attestation(const VmId& vm) const {
  const std::string name = attestation_file_name(vm);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) return AttestationRecord{};
  if (!bytes.ok()) return std::move(bytes).error();
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kAttestation, *bytes, path));
  TRY(open_file(file, site_.kek, path));
  Reader reader(file.clear);
  const VmId named = reader.id<VmId>();
  AttestationRecord record{.ek_fingerprint = reader.id<Digest>(), .pin = {}};
  const uint8_t pinned = reader.u8();
  if (pinned > 1) reader.fail();
  if (pinned == 1) record.pin = decode_attestation_pin(reader);
  TRY(reader.finish(path));
  if (named != vm || (record.pin.has_value() && record.pin->vm != vm)) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = path + " is of VM " + named.hex(),
                 .effect = "it is not used, and nothing was changed",
                 .mend = "restore " + path + " from a copy of the vault's directory"};
  }
  return record;
}

// At manufacture, so that no other TPM's key is ever taken for this VM's. Not over an enrolled one:
// a VM does not get a second TPM by asking for a certificate.
Status Vault::note_endorsement_key(const VmId& vm, const crypto::SpkiKey& ek) {
  AttestationRecord record = TRY(load_attestation(vm));
  if (record.pin.has_value() || record.ek_fingerprint == ek.fingerprint()) return {};
  record.ek_fingerprint = ek.fingerprint();
  return store_attestation(vm, record);
}

Status Vault::check_endorsement_key(const VmId& vm, const crypto::SpkiKey& ek,
                                    ByteSpan certificate_der) const {
  const crypto::Certificate certificate = TRY_CONTEXT(
      crypto::Certificate::from_der(certificate_der), "the endorsement key's certificate");
  const crypto::SpkiKey certified = TRY(certificate.public_key());
  // The usage too: this CA also signs TLS leaves, for whatever key the daemon names.
  if (certified.fingerprint() != ek.fingerprint() ||
      !certificate.has_extended_key_usage(kEkUsage)) {
    return refused(ErrorCode::kWrongKey, "the certificate is not the endorsement key's",
                   "read both from the VM's own vTPM");
  }
  bool vouched = certificate.signed_by(site_.ca);
  const std::vector<SiteIdentity> peers = TRY(recipients());
  for (const SiteIdentity& peer : peers) {
    vouched = vouched ||
              certificate.signed_by(TRY(crypto::Certificate::from_pem(peer.ca_certificate_pem)));
  }
  if (!vouched) {
    return refused(ErrorCode::kWrongKey,
                   "the endorsement key's certificate is neither by this site's CA nor by a paired "
                   "site's",
                   "pair with the site that made the VM's vTPM");
  }
  const AttestationRecord record = TRY(load_attestation(vm));
  if (!record.ek_fingerprint.is_zero() && record.ek_fingerprint != ek.fingerprint()) {
    return refused(ErrorCode::kWrongKey,
                   "the endorsement key is not the one that VM " + vm.hex() + " was made with",
                   "find out whose vTPM state the VM runs on; holdfast attest forget VM if it was "
                   "exchanged on purpose");
  }
  return {};
}

Status Vault::refuse_another_key(const VmId& vm, const AttestationRecord& record, ByteSpan name,
                                 const Caller& caller, std::string_view event) {
  if (!record.pin.has_value() || std::ranges::equal(record.pin->ak_name, name)) return {};
  audit_refusal(vm, caller, event);
  return Error{.code = ErrorCode::kConflict,
               .cause = fmt::format("VM {} is enrolled with another attestation key: {} and not {}",
                                    vm.hex(), to_hex(record.pin->ak_name), to_hex(name)),
               .effect = "the enrolled key was kept; the other one proves nothing here",
               .mend =
                   "find out whose vTPM state the VM runs on; holdfast attest forget VM if it "
                   "was exchanged on purpose"};
}

// ---- enrolment

Result<AttestationChallenge> Vault::attestation_enroll(const VmId& vm, ByteSpan ek_public,
                                                       ByteSpan ek_certificate, ByteSpan ak_public,
                                                       const Caller& caller) {
  if (!directory_.exists(key_file_name(vm))) return no_key(vm);
  const attestation::TpmPublic ek =
      TRY_CONTEXT(attestation::parse_public(ek_public), "the endorsement key");
  const attestation::TpmPublic ak = TRY(parse_ak(ak_public));
  const crypto::SpkiKey ek_key = TRY(spki_of(ek));
  TRY(check_endorsement_key(vm, ek_key, ek_certificate));
  const AttestationRecord record = TRY(load_attestation(vm));
  TRY(refuse_another_key(vm, record, ak.name, caller, "attestation_enroll"));

  const Micros now = clock_.monotonic();
  std::erase_if(challenges_, [&](const auto& entry) {
    return now.value - entry.second.begun.value > kChallengeLifeUs;
  });
  if (challenges_.size() >= kChallengesMax) {
    return refused(ErrorCode::kLimit, "too many enrolments are under way",
                   "try again in two minutes");
  }
  Challenge challenge{.vm = vm,
                      .ak_public = ak.area,
                      .ek_fingerprint = ek_key.fingerprint(),
                      .secret = crypto::Secret(kSecretSize),
                      .begun = now};
  rng_.fill(challenge.secret.mutable_span());
  attestation::Credential credential =
      TRY(attestation::make_credential(ek, ak.name, challenge.secret.span()));
  TRY(audit_.append({.event = "attestation_enroll",
                     .vm = vm,
                     .key = audit_id(ak.name),
                     .uid = caller.uid,
                     .pid = caller.pid}));
  ChallengeId id;
  rng_.fill(id.bytes);
  challenges_.insert_or_assign(id, std::move(challenge));
  return AttestationChallenge{.id = id,
                              .id_object = std::move(credential.id_object),
                              .encrypted_secret = std::move(credential.encrypted_secret)};
}

Result<AttestationPin> Vault::attestation_certify(const VmId& vm, const ChallengeId& challenge_id,
                                                  ByteSpan secret, const Caller& caller) {
  const auto found = challenges_.find(challenge_id);
  if (found == challenges_.end() || found->second.vm != vm ||
      clock_.monotonic().value - found->second.begun.value > kChallengeLifeUs) {
    return refused(ErrorCode::kNotFound, "there is no such enrolment under way",
                   "begin the enrolment anew");
  }
  const Challenge challenge = std::move(found->second);
  challenges_.erase(found);  // one try: a secret is not to be guessed at
  if (!crypto::constant_time_equal(challenge.secret.span(), secret)) {
    audit_refusal(vm, caller, "attestation_certify");
    return refused(ErrorCode::kWrongKey,
                   "the vTPM did not open the secret: it does not hold both keys",
                   "begin the enrolment anew with keys read from the VM's own vTPM");
  }
  const attestation::TpmPublic ak = TRY(parse_ak(challenge.ak_public));
  AttestationRecord record = TRY(load_attestation(vm));
  TRY(refuse_another_key(vm, record, ak.name, caller, "attestation_certify"));
  const crypto::SpkiKey key = TRY(spki_of(ak));
  const crypto::Certificate certificate =
      crypto::issue_signer(site_.ca, site_.ca_key, key,
                           {.common_name = "Holdfast VM " + vm.hex(),
                            .uris = {uri_of(vm)},
                            .extended_key_usage = kAkUsage,
                            .now = clock_.wall_time()});
  TRY(audit_.append({.event = "attestation_certify",
                     .vm = vm,
                     .key = audit_id(ak.name),
                     .uid = caller.uid,
                     .pid = caller.pid}));
  record.ek_fingerprint = challenge.ek_fingerprint;
  record.pin = AttestationPin{.vm = vm,
                              .ak_name = ak.name,
                              .ak_public = ak.area,
                              .certificate_pem = certificate.to_pem(),
                              .certified_by = site_.identity.site,
                              .pinned = clock_.wall_time()};
  TRY(store_attestation(vm, record));
  return *record.pin;
}

Result<AttestationPin> Vault::attestation_adopt(const VmId& vm, std::string_view certificate_pem,
                                                ByteSpan ak_public, const Caller& caller) {
  if (!directory_.exists(key_file_name(vm))) return no_key(vm);
  const attestation::TpmPublic ak = TRY(parse_ak(ak_public));
  const crypto::Certificate certificate =
      TRY_CONTEXT(crypto::Certificate::from_pem(certificate_pem), "the attestation certificate");
  const crypto::SpkiKey key = TRY(spki_of(ak));
  const crypto::SpkiKey certified = TRY(certificate.public_key());
  const std::vector<std::string> uris = certificate.uris();
  if (certified.fingerprint() != key.fingerprint() || uris.size() != 1 ||
      uris.front() != uri_of(vm) || !certificate.has_extended_key_usage(kAkUsage)) {
    return refused(ErrorCode::kWrongKey,
                   "the certificate is not of this attestation key of VM " + vm.hex(),
                   "have the VM's attestation record sent again by the site it came from");
  }
  std::optional<SiteId> by;
  if (certificate.signed_by(site_.ca)) by = site_.identity.site;
  const std::vector<SiteIdentity> peers = TRY(recipients());
  for (const SiteIdentity& peer : peers) {
    if (by.has_value()) break;
    if (certificate.signed_by(TRY(crypto::Certificate::from_pem(peer.ca_certificate_pem)))) {
      by = peer.site;
    }
  }
  if (!by.has_value()) {
    return refused(ErrorCode::kWrongKey, "no paired site has issued the attestation certificate",
                   "pair with the site that the VM came from");
  }
  AttestationRecord record = TRY(load_attestation(vm));
  TRY(refuse_another_key(vm, record, ak.name, caller, "attestation_adopt"));
  if (record.pin.has_value()) return *record.pin;
  TRY(audit_.append({.event = "attestation_adopt",
                     .vm = vm,
                     .site = by,
                     .key = audit_id(ak.name),
                     .uid = caller.uid,
                     .pid = caller.pid}));
  record.pin = AttestationPin{.vm = vm,
                              .ak_name = ak.name,
                              .ak_public = ak.area,
                              .certificate_pem = certificate.to_pem(),
                              .certified_by = *by,
                              .pinned = clock_.wall_time()};
  TRY(store_attestation(vm, record));
  return *record.pin;
}

Result<AttestationPin> Vault::attestation_pinned(const VmId& vm) const {
  AttestationRecord record = TRY(load_attestation(vm));
  if (record.pin.has_value()) return *std::move(record.pin);
  return Error{.code = ErrorCode::kNotFound,
               .cause = "no attestation key of VM " + vm.hex() + " is enrolled",
               .effect = "its quotes cannot be told from another vTPM's",
               .mend = "start the VM: it is enrolled at its start"};
}

Result<std::optional<Bytes>> Vault::attestation_pinned_name(const VmId& vm, const Caller& caller) {
  TRY(released_to(vm, caller, "attestation_pinned_name"));
  AttestationRecord record = TRY(load_attestation(vm));
  if (!record.pin.has_value()) return std::optional<Bytes>();
  return std::optional<Bytes>(std::move(record.pin->ak_name));
}

Status Vault::attestation_forget(const VmId& vm, const Caller& caller) {
  const AttestationPin pin = TRY(attestation_pinned(vm));
  TRY(audit_.append({.event = "attestation_forget",
                     .vm = vm,
                     .key = audit_id(pin.ak_name),
                     .uid = caller.uid,
                     .pid = caller.pid}));
  return directory_.remove(attestation_file_name(vm));
}

}  // namespace hf::vault
