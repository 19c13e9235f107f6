// Which sites may have a VM's key: for each (VM, site) an operator's word.

#include <algorithm>

#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/core/wrap.h"
#include "vault/protocol/pairing_token.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {

// By identity_digest() of what they are: the word is for those keys.
Result<std::vector<Digest>> Vault::load_members(const VmId& vm) const {
  const std::string name = members_file_name(vm);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) return std::vector<Digest>();
  if (!bytes.ok()) return std::move(bytes).error();
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kMembers, *bytes, path));
  TRY(open_file(file, site_.kek, path));
  Reader reader(file.clear);
  const VmId named = reader.id<VmId>();
  const uint32_t count = reader.u32();
  if (count > kMaxRecipients) reader.fail();
  std::vector<Digest> members;
  for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
    members.push_back(reader.id<Digest>());
  }
  TRY(reader.finish(path));
  if (named != vm) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = path + " is of VM " + named.hex(),
                 .effect = "it is not used, and nothing was changed",
                 .mend = "restore " + path + " from a copy of the vault's directory"};
  }
  return members;
}

Status Vault::store_members(const VmId& vm, const std::vector<Digest>& members) {
  Writer clear;
  clear.id(vm);
  clear.u32(static_cast<uint32_t>(members.size()));
  for (const Digest& member : members) clear.id(member);
  return directory_.replace(members_file_name(vm),
                            seal_file(FileKind::kMembers, site_.kek, clear.bytes(), {}, rng_));
}

Result<bool> Vault::add_member(const VmId& vm, const SiteId& site, const Caller& caller) {
  const Digest member = identity_digest(TRY(load_recipient(site)));
  if (!directory_.exists(key_file_name(vm))) return no_key(vm);
  std::vector<Digest> members = TRY(load_members(vm));
  if (std::ranges::find(members, member) != members.end()) return false;
  // Of sites that are recipients no more nothing is kept.
  const std::vector<SiteIdentity> pinned = TRY(recipients());
  std::erase_if(members, [&](const Digest& old) {
    return std::ranges::find(pinned, old, identity_digest) == pinned.end();
  });
  members.push_back(member);
  TRY(audit_.append(
      {.event = "add_member", .vm = vm, .site = site, .uid = caller.uid, .pid = caller.pid}));
  TRY(store_members(vm, members));
  return true;
}

Status Vault::remove_member(const VmId& vm, const SiteId& site, const Caller& caller) {
  const Digest member = identity_digest(TRY(load_recipient(site)));
  std::vector<Digest> members = TRY(load_members(vm));
  if (std::erase(members, member) == 0) return {};
  TRY(audit_.append(
      {.event = "remove_member", .vm = vm, .site = site, .uid = caller.uid, .pid = caller.pid}));
  return members.empty() ? directory_.remove(members_file_name(vm)) : store_members(vm, members);
}

Status Vault::clear_members(const VmId& vm, const Caller& caller) {
  if (!directory_.exists(members_file_name(vm))) return {};
  TRY(audit_.append({.event = "clear_members", .vm = vm, .uid = caller.uid, .pid = caller.pid}));
  return directory_.remove(members_file_name(vm));
}

// Else the words of before would hold again if it is paired with again. A file that cannot be read
// lets no key be wrapped either.
void Vault::forget_member(const SiteIdentity& peer) {
  constexpr std::string_view kPrefix = "members-";
  constexpr std::string_view kSuffix = ".hfv";
  const Digest member = identity_digest(peer);
  const Result<std::vector<std::string>> names = directory_.list();
  if (!names.ok()) return;
  for (const std::string_view name : *names) {
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    const auto vm =
        VmId::parse_hex(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size()));
    if (!vm.ok()) continue;
    Result<std::vector<Digest>> members = load_members(*vm);
    if (!members.ok() || std::erase(*members, member) == 0) continue;
    const Status stored =
        members->empty() ? directory_.remove(std::string(name)) : store_members(*vm, *members);
    static_cast<void>(stored);
  }
}

Result<bool> Vault::is_member(const VmId& vm, const SiteId& site) const {
  const Result<SiteIdentity> peer = load_recipient(site);
  if (!peer.ok() && peer.error().code == ErrorCode::kNotFound) return false;
  if (!peer.ok()) return Error(peer.error());
  const std::vector<Digest> members = TRY(load_members(vm));
  return std::ranges::find(members, identity_digest(*peer)) != members.end();
}

Result<Bytes> Vault::wrap_for(const VmId& vm, const SiteId& recipient, const Caller& caller) {
  const SiteIdentity peer = TRY(load_recipient(recipient));
  const StoredKey stored = TRY(load_key(vm));
  if (!TRY(is_member(vm, recipient))) {
    audit_refusal(vm, caller, "wrap_for");
    return Error{.code = ErrorCode::kPermission,
                 .cause = "no operator has said that site " + peer.name +
                          " may have the key of VM " + vm.hex(),
                 .effect = "the key was not wrapped for it",
                 .mend = "holdfast protection enable VM --to " + peer.name +
                         ", as root or as the user that the site was made by"};
  }
  const crypto::SpkiKey key = TRY(crypto::SpkiKey::from_pem(peer.recipient_public_key_pem));
  TRY(audit_.append({.event = "wrap_for",
                     .vm = vm,
                     .site = recipient,
                     .key = stored.key_id,
                     .uid = caller.uid,
                     .pid = caller.pid}));
  return seal_wrap({.vm = vm,
                    .key_id = stored.key_id,
                    .version = stored.version,
                    .from = site_.identity.site,
                    .recipient = recipient,
                    .recipient_key = {},
                    .time = clock_.wall_time()},
                   stored.key, key, site_.signing);
}

}  // namespace hf::vault
