#include "vault/core/vault.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "journal/seal/keys.h"
#include "vault/core/certificate.h"
#include "vault/core/names.h"
#include "vault/core/wrap.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr std::string_view kNothingChanged = "nothing was changed";
constexpr uint32_t kFirstVersion = 1;

crypto::PublicKey journal_key_of(const crypto::Secret& key, const VmId& vm, KeyVersion version) {
  return journal::JournalKeys::derive(key, vm, version).public_key();
}

// What an init that was cut short leaves behind: nothing was ever sealed under it.
bool is_init_leftover(const std::string& name) {
  return name == kHostSecretName || name == "lock" ||
         name == std::string(kHostSecretName) + ".tmp" ||
         name == std::string(kSiteFileName) + ".tmp";
}

Status refuse_unless_empty(const Directory& directory) {
  const std::vector<std::string> names = TRY(directory.list());
  for (const std::string& name : names) {
    if (is_init_leftover(name)) continue;
    const bool vault_there = directory.exists(std::string(kSiteFileName));
    return Error{.code = ErrorCode::kExists,
                 .cause = vault_there ? "there is a vault in " + directory.path() + " already"
                                      : directory.path() + " is not empty: it holds " + name,
                 .effect = std::string(kNothingChanged),
                 .mend = vault_there ? "use it, or name another directory"
                                     : "name an empty directory; if site.hfv was lost, restore it"};
  }
  return {};
}

}  // namespace

Vault::Vault(const Options& options, Directory directory, SiteKeys site, AuditLog audit,
             Clock& clock, Rng& rng)
    : directory_(std::move(directory)),
      site_(std::move(site)),
      audit_(std::move(audit)),
      clock_(clock),
      rng_(rng),
      keepers_(options.keepers, ::geteuid()),
      signer_(site_.identity.site, site_.signing),
      titles_(directory_, {.site = site_.identity.site, .kek = site_.kek, .signer = signer_},
              clock_, rng_) {}

Result<SiteIdentity> Vault::init(const Options& options, const std::string& name, Clock& clock,
                                 Rng& rng) {
  if (!is_site_name(name)) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a site's name has 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'",
                 .effect = std::string(kNothingChanged),
                 .mend = "choose such a name"};
  }
  if (::mkdir(options.directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return errno_error(errno, "create " + options.directory)
        .with_effect(std::string(kNothingChanged))
        .with_mend("see that its parent directory exists and may be written to");
  }
  Directory directory = TRY(Directory::open(options.directory));
  TRY(refuse_unless_empty(directory));
  TRY(directory.lock());
  TRY(refuse_unless_empty(directory));  // again: the lock's last owner may have been an init
  const SiteIdentity identity = TRY(create_site(directory, name, options.secret, clock, rng));
  AuditLog audit = TRY(AuditLog::open(directory, clock));
  TRY(audit.append({.event = "vault_created", .site = identity.site}));
  return identity;
}

Result<std::unique_ptr<Vault>> Vault::open(const Options& options, Clock& clock, Rng& rng) {
  Directory directory = TRY(Directory::open(options.directory));
  SiteKeys site = TRY(open_site(directory, options.secret));
  TRY(directory.lock());
  AuditLog audit = TRY(AuditLog::open(directory, clock));
  return std::unique_ptr<Vault>(
      new Vault(options, std::move(directory), std::move(site), std::move(audit), clock, rng));
}

Result<std::string> Vault::issue_tls(const TlsRequest& request, const Caller& caller) {
  const crypto::SpkiKey key = TRY(crypto::subject_key_from_pem(request.key_pem));
  const crypto::Certificate leaf =
      TRY(crypto::issue_leaf(site_.ca, site_.ca_key, key,
                             {.common_name = request.common_name,
                              .dns_names = request.dns_names,
                              .ip_addresses = request.ip_addresses,
                              .uris = {"holdfast:site:" + site_.identity.site.hex()},
                              .now = clock_.wall_time(),
                              .valid_days = kLeafValidDays}));
  TRY(audit_.append({.event = "issue_tls", .uid = caller.uid, .pid = caller.pid}));
  return leaf.to_pem();
}

Result<KeyInfo> Vault::create_vm(const Caller& caller) {
  const VmId vm = TRY(titles_.create(0));
  StoredKey stored{.key = crypto::Secret(crypto::kKeySize),
                   .version = KeyVersion(kFirstVersion),
                   .key_id = {},
                   .minted_at = site_.identity.site,
                   .created = clock_.wall_time()};
  rng_.fill(stored.key.mutable_span());
  stored.key_id = key_id_of(stored.key);
  stored.journal_public_key = journal_key_of(stored.key, vm, stored.version);
  Status made = audit_.append(
      {.event = "create_vm", .vm = vm, .key = stored.key_id, .uid = caller.uid, .pid = caller.pid});
  if (made.ok()) made = store_key(vm, stored);
  if (!made.ok()) {
    static_cast<void>(titles_.remove(vm));  // of a VM that nobody has heard of
    return std::move(made).error();
  }
  return info_of(vm, stored);
}

Result<KeyInfo> Vault::key_info(const VmId& vm) const {
  const StoredKey stored = TRY(load_key(vm));
  return info_of(vm, stored);
}

Status Vault::release(const VmId& vm, const Caller& caller) {
  const std::optional<uint32_t> uid = keepers_.uid_of(vm);
  if (!uid) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the launcher has started no keeper for VM " + vm.hex(),
                 .effect = "its key was not released; nothing was changed",
                 .mend = "start the VM with holdfast vm start"};
  }
  StoredKey stored = TRY(load_key(vm));
  const auto judged = TRY(titles_.may_release(vm, keepers_.guest_runs(vm)));
  if (!judged) return refused_by_title(vm, judged.error(), "its key was not released");
  TRY(audit_.append(
      {.event = "release", .vm = vm, .key = stored.key_id, .uid = *uid, .pid = caller.pid}));
  released_.insert_or_assign(vm, std::move(stored));
  return {};
}

Status Vault::revoke(const VmId& vm, const Caller& caller) {
  // Taking away needs no room on the disk.
  if (released_.erase(vm) > 0) {
    audit_.append_or_keep({.event = "revoke", .vm = vm, .uid = caller.uid, .pid = caller.pid});
  }
  return {};
}

Status Vault::delete_key(const VmId& vm, const Caller& caller) {
  if (released_.contains(vm)) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the key of VM " + vm.hex() + " is released to a keeper",
                 .effect = "the key was not deleted",
                 .mend = "stop the VM first"};
  }
  const bool has_key = directory_.exists(key_file_name(vm));
  if (!has_key && !titles_.exists(vm)) return no_key(vm);
  handed_out_.erase(vm);
  TRY(audit_.append({.event = "delete_key", .vm = vm, .uid = caller.uid, .pid = caller.pid}));
  // The key last: half done, this can be asked for again.
  TRY(titles_.remove(vm));
  if (directory_.exists(attestation_file_name(vm))) {
    TRY(directory_.remove(attestation_file_name(vm)));
  }
  if (directory_.exists(members_file_name(vm))) TRY(directory_.remove(members_file_name(vm)));
  if (has_key) TRY(directory_.remove(key_file_name(vm)));
  return forget_oldest_titles(vm, caller);
}

Status Vault::store_key(const VmId& vm, const StoredKey& stored) {
  Writer clear;
  clear.id(vm);
  clear.u32(stored.version.value);
  clear.u32(0);
  clear.id(stored.key_id);
  clear.id(stored.minted_at);
  clear.u64(stored.created.value);
  clear.raw(stored.journal_public_key);
  return directory_.create(key_file_name(vm), seal_file(FileKind::kKey, site_.kek, clear.bytes(),
                                                        stored.key.span(), rng_));
}

Result<Vault::StoredKey> Vault::load_key(const VmId& vm) const {
  const std::string name = key_file_name(vm);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok()) {
    return bytes.error().code == ErrorCode::kNotFound ? no_key(vm) : std::move(bytes).error();
  }
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kKey, *bytes, path));
  StoredKey stored;
  stored.key = TRY(open_file(file, site_.kek, path));
  Reader reader(file.clear);
  const VmId named = reader.id<VmId>();
  stored.version = KeyVersion(reader.u32());
  reader.u32();
  stored.key_id = reader.id<KeyId>();
  stored.minted_at = reader.id<SiteId>();
  stored.created = Micros(reader.u64());
  const ByteSpan public_key = reader.raw(crypto::kPublicKeySize);
  TRY(reader.finish(path));
  std::copy(public_key.begin(), public_key.end(), stored.journal_public_key.begin());
  if (named != vm) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = path + " holds the key of VM " + named.hex(),
                 .effect = "the key is not used, and nothing was changed",
                 .mend = "restore " + path + " from a copy of the vault's directory"};
  }
  HF_ASSERT(key_id_of(stored.key) == stored.key_id);  // authenticated: written so
  return stored;
}

KeyInfo Vault::info_of(const VmId& vm, const StoredKey& stored) const {
  KeyInfo info{.vm = vm,
               .version = stored.version,
               .key_id = stored.key_id,
               .minted_at = stored.minted_at,
               .created = stored.created,
               .journal_public_key = stored.journal_public_key,
               .certificate = {}};
  info.certificate = sign_certificate({.site = site_.identity.site,
                                       .vm = vm,
                                       .version = stored.version,
                                       .journal_public_key = stored.journal_public_key},
                                      site_.signing);
  info.released = released_.contains(vm);
  return info;
}

Result<ImportOutcome> Vault::import_wrap(const VmId& vm, ByteSpan blob, const Caller& caller) {
  const ParsedWrap wrap = TRY(parse_wrap(blob));
  const SiteIdentity peer = TRY(load_recipient(wrap.facts.from));
  TRY(check_wrap(wrap, vm, peer, site_.identity, site_.recipient.public_key()));
  Result<StoredKey> existing = load_key(vm);
  if (!existing.ok() && existing.error().code != ErrorCode::kNotFound) {
    return std::move(existing).error();
  }
  if (existing.ok()) {
    if (existing->key_id == wrap.facts.key_id && existing->version == wrap.facts.version) {
      return ImportOutcome::kAlreadyThere;
    }
    return key_conflict(vm, existing->key_id, existing->version, wrap.facts);
  }
  StoredKey stored{.key = TRY(open_wrap(wrap, site_.recipient)),
                   .version = wrap.facts.version,
                   .key_id = wrap.facts.key_id,
                   .minted_at = wrap.facts.from,
                   .created = clock_.wall_time()};
  stored.journal_public_key = journal_key_of(stored.key, vm, stored.version);
  TRY(audit_.append({.event = "import_wrap",
                     .vm = vm,
                     .site = wrap.facts.from,
                     .key = stored.key_id,
                     .uid = caller.uid,
                     .pid = caller.pid}));
  TRY(store_key(vm, stored));
  return ImportOutcome::kStored;
}

}  // namespace hf::vault
