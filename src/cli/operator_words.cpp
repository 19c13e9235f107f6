#include "cli/operator_words.h"

#include "crypto/x509.h"
#include "vault/protocol/operator_client.h"
#include "vault/protocol/pairing_token.h"

namespace hf::cli {
namespace {

vault::OperatorClient operators(const Context& context) {
  return vault::OperatorClient({.socket_path = context.state + "/run/vault-operators.sock"});
}

Result<std::string> own_address(const Context& context, const std::string& given) {
  std::string address = given;
  if (address.empty()) {
    sys::JsonValue site = TRY(context.client().get("/v1/site"));
    if (!site.is_object()) return Error{.code = ErrorCode::kCorrupt, .cause = "no site was shown"};
    address = TRY(sys::get_string(site.as_object(), "listen"));
  }
  if (address.size() <= vault::kTokenAddressMax && address.rfind(':') != std::string::npos)
    return address;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + address + "\" is not an address",
               .effect = "no token was made",
               .mend = "write it as HOST:PORT"};
}

}  // namespace

Result<sys::JsonObject> make_pairing_token(const Context& context, uint64_t life_s,
                                           const std::string& address) {
  if (life_s < 1 || life_s > vault::kMaxPairingLife) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "a pairing token that is valid for " + std::to_string(life_s) + " seconds",
        .effect = "no token was made",
        .mend = "use 1 second to 7 days"};
  }
  std::string reached = TRY(own_address(context, address));
  vault::PairingOffer offer = TRY(operators(context).offer_pairing(static_cast<uint32_t>(life_s)));
  const auto ca = TRY(crypto::Certificate::from_pem(offer.identity.ca_certificate_pem));
  const vault::PairingToken token{.site = offer.identity.site,
                                  .ca_fingerprint = ca.fingerprint(),
                                  .identity = vault::identity_digest(offer.identity),
                                  .secret = std::move(offer.secret),
                                  .address = reached};
  return sys::JsonObject{
      {"token", vault::encode_token(token)},      {"site", offer.identity.name},
      {"site_id", offer.identity.site.hex()},     {"address", reached},
      {"ca_fingerprint", ca.fingerprint().hex()}, {"expires_us", offer.expires.value}};
}

Result<sys::JsonObject> pair_by_token(const Context& context, const std::string& text,
                                      const std::string& address) {
  const vault::PairingToken token = TRY(vault::decode_token(text));
  const vault::PairingTokenId id =
      TRY(operators(context).confirm_pairing({.site = token.site,
                                              .ca_fingerprint = token.ca_fingerprint,
                                              .identity = token.identity,
                                              .secret = token.secret.clone(),
                                              .name = ""}));
  sys::JsonValue paired =
      TRY(context.client().post("/v1/pairing", {{"token_id", id.hex()},
                                                {"site_id", token.site.hex()},
                                                {"ca_fingerprint", token.ca_fingerprint.hex()},
                                                {"peer_address", token.address},
                                                {"address", address}}));
  return paired.is_object() ? paired.as_object() : sys::JsonObject();
}

}  // namespace hf::cli
