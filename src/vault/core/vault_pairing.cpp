// Pairing: how another site becomes a recipient, and that it takes the operators of both.
//
// The site that issues a token and the one that bears it prove to each other that they have it, and
// with that who they are (pairing_token.h). The vault makes the secret, or is given it, at the
// operators' socket; holdfastd carries identities and proofs, can make neither, and so can only see
// to it that nothing comes of it.
//
//   proof = HMAC-SHA256(HKDF(secret), "issuer" or "bearer" ‖ context ‖ SHA-256(own identity))
//
// `context` is the daemons': it ties the proof to their TLS connection.

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/protocol/pairing_token.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr std::string_view kOfferPrefix = "pairing-";
constexpr std::string_view kSuffix = ".hfv";
constexpr size_t kOffersMax = 32;
constexpr size_t kConfirmedMax = 8;
constexpr uint64_t kConfirmedLifeUs = 600'000'000;
constexpr uint64_t kMicrosPerSecond = 1'000'000;
// How a site gets another name here. Both are read where the token is borne.
constexpr std::string_view kNameAtIssuer =
    "at the site that made the token: holdfast site pair --new-token --name NAME";
constexpr std::string_view kNameAtBearer = "give it a name here: holdfast site pair - --name NAME";

Error not_paired(
    ErrorCode code, std::string cause,
    std::string mend = "make a new token at the other site: holdfast site pair --new-token") {
  return {.code = code,
          .cause = std::move(cause),
          .effect = "the sites are not paired",
          .mend = std::move(mend)};
}

crypto::Secret proof_key_of(const crypto::Secret& secret) {
  return crypto::hkdf_sha256(secret.span(), as_bytes("holdfast"), "holdfast pairing proof v2", 32);
}

Digest proof_of(const crypto::Secret& key, std::string_view role, const Digest& context,
                const SiteIdentity& identity) {
  const ByteSpan word = as_bytes(role);
  Bytes message(word.begin(), word.end());
  const Digest who = identity_digest(identity);
  message.insert(message.end(), context.bytes.begin(), context.bytes.end());
  message.insert(message.end(), who.bytes.begin(), who.bytes.end());
  return crypto::hmac_sha256(key.span(), message);
}

Status check_name(const std::string& name) {
  if (name.empty() || is_peer_name(name)) return {};
  return not_paired(
      ErrorCode::kInvalidArgument, "\"" + clean_text(name, 80) + "\" is no name for another site",
      "choose 1 to 64 of letters, digits, '.', '_' and '-', not beginning with '-' and not like an "
      "id");
}

}  // namespace

// ---- for operators

Result<PairingOffer> Vault::offer_pairing(uint32_t life_s, const std::string& name,
                                          const Caller& caller) {
  TRY(check_name(name));
  if (life_s == 0 || life_s > kMaxPairingLife) {
    return not_paired(ErrorCode::kInvalidArgument, "a token lives for 1 second to 7 days",
                      "holdfast site pair --new-token --expires 1h");
  }
  if (const size_t left = TRY(drop_offers(DropOffers::kExpired)); left >= kOffersMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("{} pairing tokens are outstanding", left),
                 .effect = "no token was made",
                 .mend = "use one of them, or wait until one has expired"};
  }
  const Micros now = clock_.wall_time();
  PairingOffer offer{.secret = crypto::Secret(kTokenSecretSize),
                     .expires = Micros(now.value + life_s * kMicrosPerSecond),
                     .identity = site_.identity};
  rng_.fill(offer.secret.mutable_span());
  const PairingTokenId id = token_id_of(offer.secret);
  TRY(audit_.append({.event = "offer_pairing", .uid = caller.uid, .pid = caller.pid}));
  TRY(store_offer(
      id,
      {.expires = offer.expires, .name = name, .used_by = "", .key = proof_key_of(offer.secret)}));
  return offer;
}

Result<PairingTokenId> Vault::confirm_pairing(const PairingConfirmation& word,
                                              const Caller& caller) {
  TRY(check_name(word.name));
  if (word.site == site_.identity.site) {
    return not_paired(ErrorCode::kInvalidArgument, "the token was made by this very site");
  }
  const Micros now = clock_.monotonic();
  std::erase_if(confirmed_, [&](const auto& entry) {
    return now.value - entry.second.begun.value > kConfirmedLifeUs;
  });
  const PairingTokenId id = token_id_of(word.secret);
  if (confirmed_.size() >= kConfirmedMax && !confirmed_.contains(id)) {
    return not_paired(ErrorCode::kLimit, "too many pairings are under way",
                      "try again in ten minutes");
  }
  TRY(audit_.append(
      {.event = "confirm_pairing", .site = word.site, .uid = caller.uid, .pid = caller.pid}));
  confirmed_.insert_or_assign(id, ConfirmedPairing{.site = word.site,
                                                   .ca_fingerprint = word.ca_fingerprint,
                                                   .identity = word.identity,
                                                   .name = word.name,
                                                   .key = proof_key_of(word.secret),
                                                   .begun = now});
  return id;
}

const Vault::ConfirmedPairing* Vault::confirmed_word(const PairingTokenId& id) const {
  const auto found = confirmed_.find(id);
  if (found == confirmed_.end()) return nullptr;
  const uint64_t age_us = clock_.monotonic().value - found->second.begun.value;
  return age_us > kConfirmedLifeUs ? nullptr : &found->second;
}

// ---- for the daemon, which carries it

Result<Digest> Vault::prove_pairing(const PairingTokenId& id, const Digest& context) const {
  if (const ConfirmedPairing* word = confirmed_word(id); word != nullptr) {
    return proof_of(word->key, "bearer", context, site_.identity);
  }
  const StoredOffer offer = TRY(usable_offer(id));
  return proof_of(offer.key, "issuer", context, site_.identity);
}

Result<std::string> Vault::check_pairing(const PairingProof& said, const Caller& caller) {
  const SiteIdentity& peer = said.peer;
  const ConfirmedPairing* word = confirmed_word(said.token);
  const bool bearing = word != nullptr;
  std::optional<StoredOffer> offer;
  if (!bearing) offer = TRY(usable_offer(said.token));
  const crypto::Secret& key = bearing ? word->key : offer->key;
  const Digest expected = proof_of(key, bearing ? "issuer" : "bearer", said.context, peer);
  if (!crypto::constant_time_equal(expected.span(), said.proof.span())) {
    audit_pairing_refusal(peer.site, caller);
    return not_paired(ErrorCode::kWrongKey,
                      "who calls itself site " + peer.site.hex() +
                          " does not know the token's secret, or is not who it says");
  }
  // What would be refused uses no token up.
  if (!bearing) {
    TRY(is_pinned(peer));
    return name_for(peer, offer->name, kNameAtIssuer);
  }
  if (word->site == peer.site && word->identity == identity_digest(peer)) {
    const auto ca = TRY(crypto::Certificate::from_pem(peer.ca_certificate_pem));
    if (ca.fingerprint() == word->ca_fingerprint) {
      TRY(is_pinned(peer));
      return name_for(peer, word->name, kNameAtBearer);
    }
  }
  audit_pairing_refusal(peer.site, caller);
  return not_paired(ErrorCode::kWrongKey,
                    "the other site introduced itself as another than the token names");
}

Result<std::string> Vault::accept_pairing(const PairingProof& said, const Caller& caller) {
  const PairingTokenId& id = said.token;
  const SiteIdentity& peer = said.peer;
  std::string name = TRY(check_pairing(said, caller));
  if (confirmed_word(id) != nullptr) {
    TRY(add_recipient(peer, name, caller));
    confirmed_.erase(id);
    return name;
  }
  StoredOffer offer = TRY(usable_offer(id));
  // First of all it is used up: it works once, whatever fails next.
  offer.used_by = peer.name;
  offer.key = crypto::Secret();
  TRY(store_offer(id, offer));
  TRY(add_recipient(peer, name, caller));
  return name;
}

void Vault::audit_pairing_refusal(const SiteId& site, const Caller& caller) {
  const std::optional<uint64_t> left_out = refusals_.admit(caller.uid, clock_.monotonic());
  if (!left_out) return;
  audit_.append_or_keep({.event = "add_recipient",
                         .site = site,
                         .uid = caller.uid,
                         .pid = caller.pid,
                         .left_out = *left_out,
                         .outcome = "refused"});
}

// ---- offers on the disk: they outlast the vault's process

Status Vault::store_offer(const PairingTokenId& id, const StoredOffer& offer) {
  Writer clear;
  clear.id(id);
  clear.u64(offer.expires.value);
  clear.text(offer.name, kMaxName);
  clear.text(offer.used_by, kMaxName);
  return directory_.replace(offer_file_name(id), seal_file(FileKind::kPairingOffer, site_.kek,
                                                           clear.bytes(), offer.key.span(), rng_));
}

Result<Vault::StoredOffer> Vault::load_offer(const PairingTokenId& id) const {
  const std::string name = offer_file_name(id);
  Result<Bytes> bytes = directory_.read(name, kSealedFileMax);
  if (!bytes.ok() && bytes.error().code == ErrorCode::kNotFound) {
    return not_paired(ErrorCode::kNotFound, "this site issued no such pairing token");
  }
  if (!bytes.ok()) return std::move(bytes).error();
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kPairingOffer, *bytes, path));
  StoredOffer offer{
      .expires = {}, .name = "", .used_by = "", .key = TRY(open_file(file, site_.kek, path))};
  Reader reader(file.clear);
  const auto named = reader.id<PairingTokenId>();
  offer.expires = Micros(reader.u64());
  offer.name = reader.text(kMaxName);
  offer.used_by = reader.text(kMaxName);
  TRY(reader.finish(path));
  if (named != id || (offer.used_by.empty() && offer.key.size() != crypto::kKeySize)) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = path + " is of another pairing token",
                 .effect = "it is not used, and nothing was changed",
                 .mend = "remove it, and make a new token: holdfast site pair --new-token"};
  }
  return offer;
}

Result<Vault::StoredOffer> Vault::usable_offer(const PairingTokenId& id) const {
  StoredOffer offer = TRY(load_offer(id));
  if (!offer.used_by.empty()) {
    return not_paired(ErrorCode::kConflict,
                      "the pairing token was used before, by " + offer.used_by);
  }
  if (offer.expires <= clock_.wall_time()) {
    const uint64_t since = clock_.wall_time().value - offer.expires.value;
    return not_paired(ErrorCode::kConflict, "the pairing token has expired, " +
                                                duration_words(since) +
                                                " ago by the clock of the site that made it")
        .with_mend(
            "if that clock is right: holdfast site pair --new-token there; else set it "
            "first: timedatectl");
  }
  return offer;
}

Result<size_t> Vault::drop_offers(DropOffers which) {
  size_t left = 0;
  const std::vector<std::string> names = TRY(directory_.list());
  for (const std::string_view name : names) {
    if (!name.starts_with(kOfferPrefix) || !name.ends_with(kSuffix)) continue;
    const std::string_view hex =
        name.substr(kOfferPrefix.size(), name.size() - kOfferPrefix.size() - kSuffix.size());
    const auto id = PairingTokenId::parse_hex(hex);
    if (!id.ok()) continue;
    const Result<StoredOffer> offer = load_offer(*id);
    const bool void_now = which == DropOffers::kAll && offer.ok() && offer->used_by.empty();
    if (void_now || (offer.ok() && offer->expires <= clock_.wall_time())) {
      TRY(directory_.remove(std::string(name)));
    } else {
      ++left;
    }
  }
  return left;
}

}  // namespace hf::vault
