// First contact (token.h): the bearer connects, checks the issuer's authority against the token,
// proves the token; the issuer proves it in turn; the bearer pins and confirms; the issuer uses the
// token up and pins.
//
//   bearer → {"token_hash","identity","proof"}
//   issuer → {"identity","proof"}
//   bearer → {"confirm":true}
//   issuer → {"done":true}
#include <fmt/format.h>

#include <algorithm>

#include "control/core/log.h"
#include "control/peers/peer_name.h"
#include "control/peers/peer_service.h"
#include "control/peers/token.h"
#include "control/store/catalog_inner.h"
#include "peer/trust.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr Millis kAnswerLimit = 10s;
constexpr size_t kSiteNameMax = 64;

Error not_paired(ErrorCode code, std::string cause) {
  return {.code = code,
          .cause = std::move(cause),
          .effect = "the sites are not paired",
          .mend = "make a new token at the other site: holdfast site pair --new-token"};
}

}  // namespace

namespace {

// They are shown and logged from here on, whatever becomes of the pairing.
Status check_texts(const Introduction& introduction) {
  const std::string& name = introduction.identity.name;
  const std::string& address = introduction.address;
  auto visible = [](char c) { return c > ' ' && c < 0x7f; };
  if (!name.empty() && name.size() <= kSiteNameMax && std::ranges::all_of(name, visible) &&
      address.size() <= kTokenAddressMax && std::ranges::all_of(address, visible))
    return {};
  return not_paired(ErrorCode::kInvalidArgument,
                    "what the other site says of its name or address is neither");
}

}  // namespace

std::string encode_introduction(const Introduction& introduction) {
  const vault::SiteIdentity& identity = introduction.identity;
  return sys::to_text(sys::JsonObject{{"site", identity.site.hex()},
                                      {"name", identity.name},
                                      {"address", introduction.address},
                                      {"ca_pem", identity.ca_certificate_pem},
                                      {"recipient_pem", identity.recipient_public_key_pem},
                                      {"signing_key", to_hex(identity.signing_public_key)}});
}

Result<Introduction> decode_introduction(std::string_view text) {
  sys::JsonObject json = TRY(sys::parse_json_object(text, {.bytes_max = size_t{64} << 10}));
  Introduction introduction;
  vault::SiteIdentity& identity = introduction.identity;
  identity.site = TRY(SiteId::parse_hex(TRY(sys::get_string(json, "site"))));
  identity.name = TRY(sys::get_string(json, "name"));
  identity.ca_certificate_pem = TRY(sys::get_string(json, "ca_pem"));
  identity.recipient_public_key_pem = TRY(sys::get_string(json, "recipient_pem"));
  Bytes key = TRY(from_hex(TRY(sys::get_string(json, "signing_key"))));
  if (key.size() != identity.signing_public_key.size()) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "a signing key of the wrong length"};
  }
  std::memcpy(identity.signing_public_key.data(), key.data(), key.size());
  introduction.address = TRY(sys::get_string(json, "address"));
  TRY(check_texts(introduction));
  return introduction;
}

Result<sys::JsonObject> PeerService::new_token(std::chrono::seconds lifetime, std::string address,
                                               std::string name) {
  if (!name.empty()) TRY(check_peer_name(name));
  PairingToken token{.site = identity_.site,
                     .ca_fingerprint = TRY(Digest::parse_hex(fingerprint_)),
                     .secret = crypto::Secret(kTokenSecretSize),
                     .address = address.empty() ? services_.site.listen : std::move(address)};
  if (token.address.size() > kTokenAddressMax || token.address.rfind(':') == std::string::npos) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + token.address + "\" is not an address",
                 .effect = "no token was made",
                 .mend = "write it as HOST:PORT"};
  }
  crypto::SystemRng().fill(token.secret.mutable_span());
  Micros now = catalog_now();
  TokenRow row{.hash = token_hash(token.secret).hex(),
               .proof_key = to_hex(token_proof_key(token.secret).span()),
               .created = now,
               .expires = Micros(now.value + static_cast<uint64_t>(lifetime.count()) * 1'000'000),
               .used = std::nullopt,
               .used_by = "",
               .peer_name = std::move(name)};
  TRY(services_.catalog->add_token(row));
  return sys::JsonObject{{"token", encode_token(token)},    {"site", identity_.name},
                         {"site_id", identity_.site.hex()}, {"address", token.address},
                         {"ca_fingerprint", fingerprint_},  {"expires_us", row.expires.value}};
}

Status PeerService::pin(const Introduction& introduction, const std::string& name) {
  const vault::SiteIdentity& identity = introduction.identity;
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(identity.ca_certificate_pem));
  const bool known_before = services_.catalog->peer(identity.site).ok();
  TRY(services_.vault.add_recipient(identity));
  Undo undo;
  undo.add([&] {
    if (!known_before) static_cast<void>(services_.vault.remove_recipient(identity.site));
  });
  PeerRow row{.site = identity.site,
              .name = name,
              .address = introduction.address,
              .ca_pem = identity.ca_certificate_pem,
              .fingerprint = ca.fingerprint().hex(),
              .recipient_pem = identity.recipient_public_key_pem,
              .signing_key = to_hex(identity.signing_public_key),
              .paired = catalog_now()};
  TRY(services_.catalog->put_peer(row));
  undo.add([&] {
    if (!known_before) static_cast<void>(services_.catalog->remove_peer(identity.site));
  });
  TRY(link_->set_peer(link_settings(row)));
  undo.dismiss();
  return {};
}

// ---- The issuer ----

void PeerService::serve_pairing(peer::PairingSession& session) {
  Result<sys::JsonObject> done = answer_pairing(session);
  if (!done.ok())
    log_warning("pairing with " + session.peer_address() + " failed: " + done.error().describe());
  static_cast<void>(session.send(
      done.ok() ? *done : sys::JsonObject{{"error", sys::error_to_json(done.error())}}));
}

namespace {

Status check_token(const TokenRow& token, Micros now) {
  if (token.used)
    return not_paired(ErrorCode::kConflict,
                      "the pairing token was used before, by " + token.used_by);
  if (token.expires.value <= now.value)
    return not_paired(ErrorCode::kConflict, "the pairing token has expired");
  return {};
}

}  // namespace

Result<sys::JsonObject> PeerService::answer_pairing(peer::PairingSession& session) {
  sys::JsonObject hello = TRY(session.receive(kAnswerLimit));
  std::string hash = TRY(sys::get_string(hello, "token_hash"));
  std::string their_text = TRY(sys::get_string(hello, "identity"));
  TokenRow token = TRY(services_.catalog->token(hash));
  TRY(check_token(token, catalog_now()));
  Bytes key = TRY(from_hex(token.proof_key));
  Digest expected = pairing_proof(key, ProofRole::kBearer, session.exporter(), their_text);
  Digest proof = TRY(Digest::parse_hex(TRY(sys::get_string(hello, "proof"))));
  if (!crypto::constant_time_equal(expected.span(), proof.span())) {
    return not_paired(ErrorCode::kWrongKey, "the other site does not know the token's secret");
  }
  Introduction them = TRY(decode_introduction(their_text));
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(them.identity.ca_certificate_pem));
  TRY_CONTEXT(peer::verify_peer(session.peer_chain(), ca, them.identity.site), "the other site");
  const std::string name = TRY(choose_peer_name(
      *services_.catalog, them.identity.site, them.identity.name, token.peer_name,
      "make a token that names this site: holdfast site pair --new-token --name NAME there"));

  std::string our_text =
      encode_introduction({.identity = identity_, .address = services_.site.listen});
  Digest ours = pairing_proof(key, ProofRole::kIssuer, session.exporter(), our_text);
  TRY(session.send({{"identity", our_text}, {"proof", ours.hex()}}));
  TRY(session.receive(kAnswerLimit));  // it has pinned us
  TRY(services_.catalog->use_token(hash, name, catalog_now()));
  TRY(pin(them, name));
  log_info("paired with site " + name + " (" + them.identity.site.hex() + "), CA " +
           ca.fingerprint().hex());
  return sys::JsonObject{{"done", true}};
}

// ---- The bearer ----

Result<sys::JsonObject> PeerService::pair(std::string_view text, std::string address,
                                          const std::string& wanted) {
  if (!wanted.empty()) TRY(check_peer_name(wanted));
  PairingToken token = TRY(decode_token(text));
  if (token.site == identity_.site) {
    return not_paired(ErrorCode::kInvalidArgument, "the token was made by this very site");
  }
  Result<std::unique_ptr<peer::PairingSession>> reached = link_->pair(token.address, kAnswerLimit);
  if (!reached.ok()) {
    return std::move(reached)
        .error()
        .with_effect("the sites are not paired; the token can still be used")
        .with_mend("see that the other site runs (holdfast site start) and can be reached at " +
                   token.address);
  }
  std::unique_ptr<peer::PairingSession> session = *std::move(reached);
  const std::vector<crypto::Certificate>& chain = session->peer_chain();
  const crypto::Certificate* ca = nullptr;
  for (const crypto::Certificate& one : chain) {
    if (one.fingerprint() == token.ca_fingerprint) ca = &one;
  }
  if (ca == nullptr) {
    return not_paired(ErrorCode::kWrongKey,
                      "who answers at " + token.address +
                          " has another certificate authority than the token names");
  }
  TRY_CONTEXT(peer::verify_peer(chain, *ca, token.site), "who answers at " + token.address);

  crypto::Secret key = token_proof_key(token.secret);
  std::string our_text = encode_introduction(
      {.identity = identity_,
       .address = address.empty() ? services_.site.listen : std::move(address)});
  Digest proof = pairing_proof(key.span(), ProofRole::kBearer, session->exporter(), our_text);
  TRY(session->send({{"token_hash", token_hash(token.secret).hex()},
                     {"identity", our_text},
                     {"proof", proof.hex()}}));
  sys::JsonObject reply = TRY(session->receive(kAnswerLimit));
  std::string their_text = TRY(sys::get_string(reply, "identity"));
  Digest expected = pairing_proof(key.span(), ProofRole::kIssuer, session->exporter(), their_text);
  Digest theirs = TRY(Digest::parse_hex(TRY(sys::get_string(reply, "proof"))));
  if (!crypto::constant_time_equal(expected.span(), theirs.span())) {
    return not_paired(ErrorCode::kWrongKey, "the other site does not know the token's secret");
  }
  Introduction them = TRY(decode_introduction(their_text));
  them.address = token.address;  // it answers there: that is known
  crypto::Certificate named = TRY(crypto::Certificate::from_pem(them.identity.ca_certificate_pem));
  if (named.fingerprint() != token.ca_fingerprint || them.identity.site != token.site) {
    return not_paired(ErrorCode::kWrongKey,
                      "the other site introduced itself as another than the token names");
  }

  const std::string name =
      TRY(choose_peer_name(*services_.catalog, them.identity.site, them.identity.name, wanted,
                           "holdfast site pair with --name NAME, here"));

  bool known_before = services_.catalog->peer(them.identity.site).ok();
  Undo undo;
  undo.add([&] {
    if (known_before) return;
    link_->remove_peer(them.identity.site);
    static_cast<void>(services_.vault.remove_recipient(them.identity.site));
    static_cast<void>(services_.catalog->remove_peer(them.identity.site));
  });
  TRY(pin(them, name));
  TRY(session->send({{"confirm", true}}));
  TRY(session->receive(kAnswerLimit));
  undo.dismiss();
  log_info("paired with site " + name + " (" + them.identity.site.hex() + "), CA " +
           named.fingerprint().hex());
  return sys::JsonObject{{"peer", name},
                         {"peer_site_id", them.identity.site.hex()},
                         {"peer_address", them.address},
                         {"peer_ca_fingerprint", named.fingerprint().hex()},
                         {"own_ca_fingerprint", fingerprint_}};
}

}  // namespace hf::control
