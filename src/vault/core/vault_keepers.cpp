// What keepers may ask: their VM's key, its freshness record, certificates for its vTPM.

#include <fmt/format.h>

#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

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

Status Vault::bind_keepers(const KeeperBindings& bindings, const Caller& caller) {
  std::map<VmId, uint32_t> before;
  for (const auto& [vm, stored] : released_) before.emplace(vm, keepers_.uid_of(vm).value_or(0));
  const bool first = keepers_.generation() == 0;
  const std::map<VmId, uint32_t> bound = keepers_.all();
  const std::set<VmId> ran = keepers_.guests();
  TRY(keepers_.replace(bindings));
  for (const auto& [vm, uid] : before) {
    if (keepers_.uid_of(vm) == uid) continue;
    released_.erase(vm);
    audit_.append_or_keep({.event = "revoke", .vm = vm, .uid = caller.uid, .pid = caller.pid});
  }
  // What ran before this process may have had its key from the one before.
  if (first) {
    for (const auto& [vm, uid] : keepers_.all()) handed_out_.insert(vm);
  }
  // Dead, and reaped: the launcher says so. What one has shown of its line goes with it.
  std::erase_if(handed_out_, [&](const VmId& vm) { return !keepers_.uid_of(vm); });
  for (const auto& [vm, uid] : bound) {
    if (keepers_.uid_of(vm) != uid) titles_.keeper_gone(vm);
  }
  for (const VmId& vm : ran) {
    if (!keepers_.guest_runs(vm)) titles_.stopped(vm);
  }
  return {};
}

void Vault::audit_refusal(const VmId& vm, const Caller& caller, std::string_view event) {
  const std::optional<uint64_t> left_out = refusals_.admit(caller.uid, clock_.monotonic());
  if (!left_out) return;
  audit_.append_or_keep({.event = event,
                         .vm = vm,
                         .uid = caller.uid,
                         .pid = caller.pid,
                         .left_out = *left_out,
                         .outcome = "refused"});
}

Status Vault::check_keeper(const VmId& vm, const Caller& caller, std::string_view event) {
  if (keepers_.uid_of(vm) == caller.uid) return {};
  audit_refusal(vm, caller, event);
  // The same words whether the VM is known here or not: a keeper learns nothing about others.
  return Error{.code = ErrorCode::kPermission,
               .cause = fmt::format("user {} is not the keeper of VM {}", caller.uid, vm.hex()),
               .effect = "the VM does not start",
               .mend = "start the VM with holdfast vm start; a keeper does not run by itself"};
}

Result<const Vault::StoredKey*> Vault::released_to(const VmId& vm, const Caller& caller,
                                                   std::string_view event) {
  TRY(check_keeper(vm, caller, event));
  const auto found = released_.find(vm);
  if (found != released_.end()) return &found->second;
  // No refusal to be recorded: a keeper that was just started is ahead of its release.
  return Error{.code = ErrorCode::kUnavailable,
               .cause = fmt::format("the key of VM {} is not released to its keeper", vm.hex()),
               .effect = "the VM does not start",
               .mend = "start the VM with holdfast vm start; a keeper does not run by itself"};
}

Result<FetchedKey> Vault::fetch_key(const VmId& vm, const Caller& caller) {
  const StoredKey* stored = TRY(released_to(vm, caller, "fetch_key"));
  // A keeper must come back even if the disk is full: the line may wait, but not be lost. One that
  // comes back in a loop does not fill the disk: then only how often is written.
  const std::optional<uint64_t> left_out = fetches_.admit(vm, clock_.monotonic());
  if (left_out && !audit_.append_or_keep({.event = "fetch_key",
                                          .vm = vm,
                                          .key = stored->key_id,
                                          .uid = caller.uid,
                                          .pid = caller.pid,
                                          .left_out = *left_out})) {
    return Error{.code = ErrorCode::kNoSpace,
                 .cause = "the vault's audit log cannot be written and its queue is full",
                 .effect = fmt::format("key {} was not handed out", stored->key_id.hex()),
                 .mend = "free space on the file system of the vault's directory and try again"};
  }
  handed_out_.insert(vm);
  titles_.key_goes_out(vm);
  return FetchedKey{
      .key = stored->key.clone(), .version = stored->version, .key_id = stored->key_id};
}

Status Vault::put_freshness(const VmId& vm, const Freshness& freshness, const Caller& caller) {
  TRY(released_to(vm, caller, "put_freshness"));
  return titles_.put_freshness(vm, freshness);
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
  const StoredKey* stored = TRY(released_to(vm, caller, "issue_ek_certificate"));
  const crypto::SpkiKey ek = TRY_CONTEXT(crypto::SpkiKey::from_der(public_key), "endorsement key");
  if (!is_of_kind(ek, kind)) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "the endorsement key is not of the kind named",
                 .effect = "no certificate was issued",
                 .mend = "ask with the kind of the key that the TPM made"};
  }
  if (!certificates_.admit(vm, clock_.monotonic())) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "the keeper of VM " + vm.hex() + " asks for too many certificates",
                 .effect = "no certificate was issued",
                 .mend = "try again after 10 minutes"};
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
                     .key = stored->key_id,
                     .uid = caller.uid,
                     .pid = caller.pid}));
  if (kind == EkKind::kRsa2048) TRY(note_endorsement_key(vm, ek));
  return certificate.to_der();
}

}  // namespace hf::vault
