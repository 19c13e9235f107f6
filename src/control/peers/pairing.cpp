// First contact. Operators have begun it, at the vaults' own sockets
// (vault/protocol/operator_client.h): one has made a token, the other has handed it over. What
// passes here is identities and proofs that the vaults make and check; the daemons see to it that
// the connection is with whom they speak of. The bearer connects and checks the issuer's authority
// against the token; each proves the token; the bearer pins and confirms; the issuer uses the token
// up and pins.
//
//   bearer → {"token_id","identity","proof"}
//   issuer → {"identity","proof"}
//   bearer → {"confirm":true}
//   issuer → {"done":true}
#include <fmt/format.h>

#include <algorithm>

#include "base/host_port.h"
#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/store/catalog_inner.h"
#include "crypto/x509.h"
#include "peer/trust.h"
#include "vault/protocol/pairing_token.h"
#include "vault/protocol/protocol.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr Millis kAnswerLimit = 10s;

Error not_paired(ErrorCode code, std::string cause) {
  return {.code = code,
          .cause = std::move(cause),
          .effect = "the sites are not paired",
          .mend = "make a new token at the other site: holdfast site pair --new-token"};
}

// A proof holds for this TLS connection and for all that was sent.
Digest context_of(const Digest& exporter, std::string_view introduction) {
  crypto::Sha256 hash;
  hash.update(as_bytes("holdfast pairing context v1"));
  hash.update(exporter.span());
  hash.update(as_bytes(introduction));
  return hash.finish();
}

// What the other site has sent, for the vault to judge.
Result<vault::PairingProof> proof_in(const sys::JsonObject& message,
                                     const vault::PairingTokenId& token, const Digest& exporter,
                                     const Introduction& introduced, std::string_view text) {
  return vault::PairingProof{
      .token = token,
      .context = context_of(exporter, text),
      .peer = introduced.identity,
      .proof = TRY(Digest::parse_hex(TRY(sys::get_string(message, "proof"))))};
}

// They are shown and logged from here on, whatever becomes of the pairing.
Status check_texts(const Introduction& introduction) {
  const std::string& name = introduction.identity.name;
  const std::string& address = introduction.address;
  auto visible = [](char c) { return c > ' ' && c < 0x7f; };
  if (!name.empty() && name.size() <= vault::kMaxName && std::ranges::all_of(name, visible) &&
      address.size() <= vault::kTokenAddressMax && std::ranges::all_of(address, visible))
    return {};
  return not_paired(ErrorCode::kInvalidArgument,
                    "what the other site says of its name or address is neither");
}

// The vault has seen to it among its own. One that is unpaired in part is called so here still.
Status check_name_free(Catalog& catalog, SiteId site, const std::string& name) {
  for (const PeerRow& other : TRY(catalog.peers())) {
    if (other.name != name || other.site == site) continue;
    return Error{.code = ErrorCode::kExists,
                 .cause = "\"" + name + "\" is what another site is called",
                 .effect = "the sites are not paired; the token can still be used",
                 .mend =
                     "give it another name: holdfast site pair --name NAME at the site that has "
                     "the other one (holdfast site peers)"};
  }
  return {};
}

}  // namespace

Result<std::string> own_address(const launcher::SiteConfig& site, std::string given,
                                std::string_view effect) {
  const bool chosen = !given.empty();
  std::string address = chosen ? std::move(given) : site.reached_at();
  Result<HostPort> parsed = parse_reachable_address(address);
  if (parsed.ok() && address.size() <= vault::kTokenAddressMax) return address;
  Error error = parsed.ok()
                    ? Error{.code = ErrorCode::kLimit, .cause = "an address that is too long"}
                    : std::move(parsed).error();
  if (!chosen) error.mend = "say where other sites reach this one: --address HOST:PORT";
  return std::move(error)
      .with_effect(std::string(effect))
      .with_mend("give a shorter one: --address HOST:PORT");
}

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

Result<Introduction> decode_bearer(std::string_view text) {
  Introduction them = TRY(decode_introduction(text));
  // Before anything is stored of them; their own site refuses to say such a thing, of late.
  Result<HostPort> address = parse_reachable_address(them.address);
  if (address.ok()) return them;
  Error error = std::move(address).error().context("the other site's own address");
  error.mend = "say there where it is reached: holdfast site pair - --address HOST:PORT";
  return std::move(error).with_effect("the sites are not paired; the token can still be used");
}

// The vault has made it a recipient before.
Status PeerService::pin(const Introduction& introduction, const std::string& name) {
  const vault::SiteIdentity& identity = introduction.identity;
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(identity.ca_certificate_pem));
  PeerRow row{.site = identity.site,
              .name = name,
              .address = introduction.address,
              .ca_pem = identity.ca_certificate_pem,
              .fingerprint = ca.fingerprint().hex(),
              .recipient_pem = identity.recipient_public_key_pem,
              .signing_key = to_hex(identity.signing_public_key),
              .paired = catalog_now()};
  TRY(services_.catalog->put_peer(row));
  return link_->set_peer(link_settings(row));
}

// ---- The issuer ----

void PeerService::serve_pairing(peer::PairingSession& session) {
  Result<sys::JsonObject> done = answer_pairing(session);
  if (!done.ok()) {
    const std::string failed =
        "pairing with " + session.peer_address() + " failed: " + done.error().describe();
    services_.peer_log.line(PeerDoes::kPairing, failed);
    services_.limited_events->tell(
        Often::kPairing, {.severity = Severity::kWarning,
                          .kind = "peer.refused",
                          .subject = kTheSite,
                          .text = failed,
                          .by = {.actor = "a stranger", .origin = session.peer_address()}});
  }
  static_cast<void>(session.send(
      done.ok() ? *done : sys::JsonObject{{"error", sys::error_to_json(done.error())}}));
}

Result<sys::JsonObject> PeerService::answer_pairing(peer::PairingSession& session) {
  sys::JsonObject hello = TRY(session.receive(kAnswerLimit));
  vault::PairingTokenId token =
      TRY(vault::PairingTokenId::parse_hex(TRY(sys::get_string(hello, "token_id"))));
  std::string their_text = TRY(sys::get_string(hello, "identity"));
  Introduction them = TRY(decode_bearer(their_text));
  vault::PairingProof said = TRY(proof_in(hello, token, session.exporter(), them, their_text));
  TRY(check_name_free(*services_.catalog, them.identity.site,
                      TRY(services_.vault.check_pairing(said))));
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(them.identity.ca_certificate_pem));
  TRY_CONTEXT(peer::verify_peer(session.peer_chain(), ca, them.identity.site), "the other site");
  std::string our_text =
      encode_introduction({.identity = identity_, .address = services_.site.reached_at()});
  Digest ours = TRY(services_.vault.prove_pairing(token, context_of(session.exporter(), our_text)));
  TRY(session.send({{"identity", our_text}, {"proof", ours.hex()}}));
  TRY(session.receive(kAnswerLimit));  // it has pinned us
  const std::string name = TRY(services_.vault.accept_pairing(said));
  TRY(pin(them, name));
  log_info("paired with site " + name + " (" + them.identity.site.hex() + "), CA " +
           ca.fingerprint().hex());
  services_.happened("peer.paired", kTheSite,
                     "paired with site " + name + ", which bore a token that was made here; CA " +
                         ca.fingerprint().hex(),
                     {.actor = "site " + name, .origin = session.peer_address()});
  return sys::JsonObject{{"done", true}};
}

// ---- The bearer ----

Result<sys::JsonObject> PeerService::pair(const BornToken& token, std::string address,
                                          const By& by) {
  address = TRY(own_address(services_.site, std::move(address),
                            "the sites are not paired; the token can still be used"));
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

  std::string our_text =
      encode_introduction({.identity = identity_, .address = std::move(address)});
  Digest proof =
      TRY(services_.vault.prove_pairing(token.id, context_of(session->exporter(), our_text)));
  TRY(session->send(
      {{"token_id", token.id.hex()}, {"identity", our_text}, {"proof", proof.hex()}}));
  sys::JsonObject reply = TRY(session->receive(kAnswerLimit));
  std::string their_text = TRY(sys::get_string(reply, "identity"));
  Introduction them = TRY(decode_introduction(their_text));
  vault::PairingProof said = TRY(proof_in(reply, token.id, session->exporter(), them, their_text));
  them.address = token.address;  // it answers there: that is known
  crypto::Certificate named = TRY(crypto::Certificate::from_pem(them.identity.ca_certificate_pem));
  TRY(check_name_free(*services_.catalog, them.identity.site,
                      TRY(services_.vault.check_pairing(said))));
  const std::string name = TRY(services_.vault.accept_pairing(said));

  bool known_before = services_.catalog->peer(them.identity.site).ok();
  Undo undo;
  undo.add([&] {
    if (known_before) return;
    link_->remove_peer(them.identity.site);
    static_cast<void>(services_.catalog->remove_peer(them.identity.site));
  });
  TRY(pin(them, name));
  TRY(session->send({{"confirm", true}}));
  TRY(session->receive(kAnswerLimit));
  undo.dismiss();
  log_info("paired with site " + name + " (" + them.identity.site.hex() + "), CA " +
           named.fingerprint().hex());
  services_.happened(
      "peer.paired", kTheSite,
      "paired with site " + name + " at " + them.address + "; CA " + named.fingerprint().hex(), by);
  return sys::JsonObject{{"peer", name},
                         {"peer_site_id", them.identity.site.hex()},
                         {"peer_address", them.address},
                         {"peer_ca_fingerprint", named.fingerprint().hex()},
                         {"own_ca_fingerprint", fingerprint_}};
}

}  // namespace hf::control
