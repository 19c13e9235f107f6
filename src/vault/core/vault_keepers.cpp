// What keepers may ask: their VM's key, its freshness record, certificates for its vTPM.

#include <fmt/format.h>

#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr uint64_t kRefusalIntervalUs = 1'000'000;

// As libtpms answers TPM_PT_MANUFACTURER ("IBM") and TPM_PT_REVISION (1.64).
constexpr std::string_view kTpmManufacturer = "id:00001014";
constexpr std::string_view kTpmModel = "holdfast";
constexpr std::string_view kTpmVersion = "id:00000001";
constexpr int kTpmRevision = 164;

bool is_of_kind(const crypto::SpkiKey& key, EkKind kind) {
  switch (kind) {
    case EkKind::kRsa2048:
      return key.kind() == crypto::KeyKind::kRsa && key.bits() == 2048;
    case EkKind::kRsa3072:
      return key.kind() == crypto::KeyKind::kRsa && key.bits() == 3072;
    case EkKind::kEccP384:
      return key.kind() == crypto::KeyKind::kEcP384;
  }
  return false;
}

}  // namespace

// A keeper that asks in a loop must not fill the disk with refusals: one a second is written.
void Vault::audit_refusal(const VmId& vm, const Caller& caller, std::string_view event) {
  const Micros now = clock_.monotonic();
  if (last_refusal_.value != 0 && now.value - last_refusal_.value < kRefusalIntervalUs) return;
  last_refusal_ = now;
  audit_.append_or_keep(
      {.event = event, .vm = vm, .uid = caller.uid, .pid = caller.pid, .outcome = "refused"});
}

Result<const Vault::Release*> Vault::released_to(const VmId& vm, const Caller& caller,
                                                 std::string_view event) {
  const auto found = released_.find(vm);
  if (found != released_.end() && found->second.uid == caller.uid) return &found->second;
  audit_refusal(vm, caller, event);
  // The same words for "not released" and "to another uid": a keeper learns nothing about others.
  return Error{
      .code = ErrorCode::kPermission,
      .cause = fmt::format("the key of VM {} is not released to uid {}", vm.hex(), caller.uid),
      .effect = "the VM does not start",
      .mend = "start the VM with holdfast vm start; a keeper does not run by itself"};
}

Result<FetchedKey> Vault::fetch_key(const VmId& vm, const Caller& caller) {
  const Release* release = TRY(released_to(vm, caller, "fetch_key"));
  // A keeper must come back even if the disk is full: the line may wait, but not be lost.
  if (!audit_.append_or_keep({.event = "fetch_key",
                              .vm = vm,
                              .key = release->stored.key_id,
                              .uid = caller.uid,
                              .pid = caller.pid})) {
    return Error{.code = ErrorCode::kNoSpace,
                 .cause = "the vault's audit log cannot be written and its queue is full",
                 .effect = fmt::format("key {} was not handed out", release->stored.key_id.hex()),
                 .mend = "free space on the file system of the vault's directory and try again"};
  }
  return FetchedKey{.key = release->stored.key.clone(),
                    .version = release->stored.version,
                    .key_id = release->stored.key_id};
}

Status Vault::put_freshness(const VmId& vm, const Freshness& freshness, const Caller& caller) {
  TRY(released_to(vm, caller, "put_freshness"));
  Writer clear;
  clear.id(vm);
  encode(clear, freshness);
  return directory_.replace(freshness_file_name(vm),
                            seal_file(FileKind::kFreshness, site_.kek, clear.bytes(), {}, rng_));
}

Result<Freshness> Vault::read_freshness(const VmId& vm) const {
  const std::string name = freshness_file_name(vm);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "no freshness record of VM " + vm.hex(),
                 .effect = "whether its journal is the newest cannot be told here"};
  }
  if (!bytes.ok()) return std::move(bytes).error();
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kFreshness, *bytes, path));
  TRY(open_file(file, site_.kek, path));
  Reader reader(file.clear);
  const VmId named = reader.id<VmId>();
  const Freshness freshness = decode_freshness(reader);
  TRY(reader.finish(path));
  if (named != vm) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = path + " is of VM " + named.hex(),
                 .effect = "it is not used, and nothing was changed",
                 .mend = "restore " + path + " from a copy of the vault's directory"};
  }
  return freshness;
}

Result<std::optional<Freshness>> Vault::get_freshness(const VmId& vm, const Caller& caller) {
  TRY(released_to(vm, caller, "get_freshness"));
  Result<Freshness> freshness = read_freshness(vm);
  if (freshness.ok()) return std::optional<Freshness>(*freshness);
  if (freshness.error().code == ErrorCode::kNotFound) return std::optional<Freshness>();
  return std::move(freshness).error();
}

Result<Bytes> Vault::issue_ek_certificate(const VmId& vm, EkKind kind, ByteSpan public_key,
                                          const Caller& caller) {
  const Release* release = TRY(released_to(vm, caller, "issue_ek_certificate"));
  const crypto::SpkiKey ek = TRY_CONTEXT(crypto::SpkiKey::from_der(public_key), "endorsement key");
  if (!is_of_kind(ek, kind)) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "the endorsement key is not of the kind named",
                 .effect = "no certificate was issued",
                 .mend = "ask with the kind of the key that the TPM made"};
  }
  const crypto::Certificate certificate =
      TRY(crypto::issue_ek(site_.ca, site_.ca_key, ek,
                           {.manufacturer = std::string(kTpmManufacturer),
                            .model = std::string(kTpmModel),
                            .firmware_version = std::string(kTpmVersion),
                            .specification_revision = kTpmRevision,
                            .now = clock_.wall_time()}));
  TRY(audit_.append({.event = "issue_ek_certificate",
                     .vm = vm,
                     .key = release->stored.key_id,
                     .uid = caller.uid,
                     .pid = caller.pid}));
  if (kind == EkKind::kRsa2048) TRY(note_endorsement_key(vm, ek));
  return certificate.to_der();
}

}  // namespace hf::vault
