// Recipients: the sites that keys may be wrapped to, pinned at pairing.

#include <fmt/format.h>

#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr std::string_view kNotPinned = "the site was not made a recipient; nothing was changed";

Error bad_peer(ErrorCode code, std::string cause) {
  return Error{.code = code,
               .cause = "the peer's identity: " + std::move(cause),
               .effect = std::string(kNotPinned),
               .mend = "pair the sites again"};
}

Status check_peer(const SiteIdentity& peer) {
  if (!is_site_name(peer.name) || peer.site.is_zero()) {
    return bad_peer(ErrorCode::kInvalidArgument, "no proper site name or id");
  }
  const crypto::SpkiKey key = TRY_CONTEXT(crypto::SpkiKey::from_pem(peer.recipient_public_key_pem),
                                          "the peer's recipient key");
  if (key.kind() != crypto::KeyKind::kRsa || key.bits() < 3072 || key.bits() > 8192) {
    return bad_peer(ErrorCode::kInvalidArgument,
                    "its recipient key is not RSA of 3072 to 8192 bits");
  }
  const crypto::Certificate ca = TRY_CONTEXT(crypto::Certificate::from_pem(peer.ca_certificate_pem),
                                             "the peer's CA certificate");
  if (!ca.is_ca() || !ca.signed_by(ca)) {
    return bad_peer(ErrorCode::kInvalidArgument, "its certificate is not a self-signed CA");
  }
  return {};
}

Bytes encoded(const SiteIdentity& peer) {
  Writer out;
  encode(out, peer);
  return out.take();
}

}  // namespace

// Whether it is one already; else that it may become one.
Result<bool> Vault::is_pinned(const SiteIdentity& peer) const {
  TRY(check_peer(peer));
  if (encoded(peer).size() > kMaxIdentity) return bad_peer(ErrorCode::kLimit, "over 5 KiB");
  if (peer.site == site_.identity.site) {
    return bad_peer(ErrorCode::kConflict, "it is this site's own");
  }
  Result<SiteIdentity> pinned = load_recipient(peer.site);
  if (pinned.ok()) {
    if (*pinned == peer) return true;
    return Error{
        .code = ErrorCode::kConflict,
        .cause = fmt::format("site {} is pinned with other keys", peer.site.hex()),
        .effect = "the pinned keys were kept",
        .mend = "if that site's vault was made anew, remove the recipient, then pair again"};
  }
  if (pinned.error().code != ErrorCode::kNotFound) return std::move(pinned).error();
  const std::vector<SiteIdentity> all = TRY(recipients());
  if (all.size() >= kMaxRecipients) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("a vault has at most {} recipients", kMaxRecipients),
                 .effect = std::string(kNotPinned),
                 .mend = "remove one that is not needed"};
  }
  return false;
}

Status Vault::add_recipient(const SiteIdentity& peer, const std::string& name,
                            const Caller& caller) {
  const bool pinned = TRY(is_pinned(peer));
  const std::string called =
      TRY(name_for(peer, name, "pair the sites by another name: holdfast site pair --name NAME"));
  if (pinned && TRY(load_recipient_file(peer.site)).name == called) return {};
  Writer clear;
  encode(clear, Recipient{.identity = peer, .name = called});
  TRY(audit_.append(
      {.event = "add_recipient", .site = peer.site, .uid = caller.uid, .pid = caller.pid}));
  verifier_.reset();
  // All of it is public; sealing authenticates it: a pin that others could change is none.
  const Bytes file = seal_file(FileKind::kRecipient, site_.kek, clear.bytes(), {}, rng_);
  const std::string file_name = recipient_file_name(peer.site);
  return pinned ? directory_.replace(file_name, file) : directory_.create(file_name, file);
}

// An operator's word about a site names it by this: two that are called alike, or one that is
// called as another's id, could be taken for each other.
Result<std::string> Vault::name_for(const SiteIdentity& peer, const std::string& wanted,
                                    std::string_view mend) const {
  std::string name = wanted;
  if (name.empty()) {
    Result<Recipient> pinned = load_recipient_file(peer.site);
    if (pinned.ok()) return std::move(pinned->name);
    if (pinned.error().code != ErrorCode::kNotFound) return std::move(pinned).error();
    name = peer.name;
  }
  if (!is_peer_name(name)) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + name + "\" is no name for another site",
                 .effect = "the sites are not paired",
                 .mend = std::string(mend)};
  }
  for (const Recipient& other : TRY(pinned_recipients())) {
    if (other.name != name || other.identity.site == peer.site) continue;
    return Error{
        .code = ErrorCode::kExists,
        .cause = "\"" + name + "\" is what another site is called: " + other.identity.site.hex(),
        .effect = "the sites are not paired",
        .mend = std::string(mend)};
  }
  return name;
}

Status Vault::remove_recipient(const SiteId& site, const Caller& caller) {
  if (!directory_.exists(recipient_file_name(site))) {
    return load_recipient(site).error();
  }
  TRY(audit_.append(
      {.event = "remove_recipient", .site = site, .uid = caller.uid, .pid = caller.pid}));
  // Before it is forgotten, so that the same command does what a death in between has left.
  for (const VmId& vm : TRY(titles_.expel(site))) {
    audit_.append_or_keep({.event = "title_signed",
                           .vm = vm,
                           .site = site,
                           .uid = caller.uid,
                           .pid = caller.pid,
                           .outcome = title::to_string(title::Kind::kExpel)});
  }
  verifier_.reset();
  if (const Result<SiteIdentity> peer = load_recipient(site); peer.ok()) forget_member(*peer);
  TRY(drop_offers(DropOffers::kAll));
  std::erase_if(confirmed_, [&](const auto& entry) { return entry.second.site == site; });
  return directory_.remove(recipient_file_name(site));
}

Result<SiteIdentity> Vault::load_recipient(const SiteId& site) const {
  return TRY(load_recipient_file(site)).identity;
}

Result<Recipient> Vault::load_recipient_file(const SiteId& site) const {
  const std::string name = recipient_file_name(site);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "site " + site.hex() + " is not a recipient of this vault",
                 .effect = "no key crosses between the two sites",
                 .mend = "pair the sites first (holdfast site pair)"};
  }
  if (!bytes.ok()) return std::move(bytes).error();
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kRecipient, *bytes, path));
  TRY(open_file(file, site_.kek, path));
  Reader reader(file.clear);
  Recipient peer = decode_recipient(reader);
  TRY(reader.finish(path));
  if (peer.identity.site != site) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = path + " describes another site",
                 .effect = "the recipient is not used, and nothing was changed",
                 .mend = "restore " + path + " from a copy of the vault's directory"};
  }
  return peer;
}

Result<std::vector<SiteIdentity>> Vault::recipients() const {
  std::vector<SiteIdentity> out;
  for (Recipient& recipient : TRY(pinned_recipients()))
    out.push_back(std::move(recipient.identity));
  return out;
}

Result<std::vector<Recipient>> Vault::pinned_recipients() const {
  constexpr std::string_view kPrefix = "recipient-";
  constexpr std::string_view kSuffix = ".hfv";
  std::vector<Recipient> out;
  const std::vector<std::string> names = TRY(directory_.list());
  for (const std::string_view name : names) {
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    const std::string_view hex =
        name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    const SiteId site = TRY_CONTEXT(SiteId::parse_hex(hex), name);
    out.push_back(TRY(load_recipient_file(site)));
  }
  return out;
}

}  // namespace hf::vault
