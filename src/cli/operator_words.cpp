#include "cli/operator_words.h"

#include <unistd.h>

#include <algorithm>

#include "base/host_port.h"
#include "cli/core/launcher.h"
#include "crypto/x509.h"
#include "vault/protocol/operator_client.h"
#include "vault/protocol/pairing_token.h"

namespace hf::cli {
namespace {

vault::OperatorClient operators(const Context& context) {
  return vault::OperatorClient({.socket_path = context.state + "/run/vault-operators.sock"});
}

// The vault's answer, with what a caller of this program does about a vault that he cannot reach.
template <typename T>
Result<T> heard(const Context& context, Result<T> answer) {
  if (answer.ok()) return answer;
  Error error = std::move(answer).error();
  if (error.code == ErrorCode::kUnavailable) {
    return nobody_serves(context.state, "the vault", error.cause);
  }
  if (error.code == ErrorCode::kPermission) {
    return not_permitted(context.state, context.state + "/run/vault-operators.sock");
  }
  return error;
}

Result<std::string> own_address(const Context& context, const std::string& given) {
  std::string address = given;
  if (address.empty()) {
    sys::JsonValue site = TRY(context.client().get("/v1/site"));
    if (!site.is_object()) return Error{.code = ErrorCode::kCorrupt, .cause = "no site was shown"};
    address = TRY(sys::get_string(site.as_object(), "advertise"));
  }
  Result<HostPort> parsed = parse_reachable_address(address);
  if (parsed.ok() && address.size() <= vault::kTokenAddressMax) return address;
  Error error = parsed.ok()
                    ? Error{.code = ErrorCode::kLimit, .cause = "an address that is too long"}
                    : std::move(parsed).error();
  if (given.empty()) error.mend = "say where other sites reach this one: --address HOST:PORT";
  return std::move(error)
      .with_effect("no token was made")
      .with_mend("give a shorter one: --address HOST:PORT");
}

}  // namespace

Result<sys::JsonObject> make_pairing_token(const Context& context, uint64_t life_s,
                                           const std::string& address, const std::string& name) {
  if (life_s < 1 || life_s > vault::kMaxPairingLife) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "a pairing token that is valid for " + std::to_string(life_s) + " seconds",
        .effect = "no token was made",
        .mend = "use 1 second to 7 days"};
  }
  std::string reached = TRY(own_address(context, address));
  vault::PairingOffer offer =
      TRY(heard(context, operators(context).offer_pairing(static_cast<uint32_t>(life_s), name)));
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
                                      const std::string& address, const std::string& name) {
  const vault::PairingToken token = TRY(vault::decode_token(text));
  const vault::PairingTokenId id =
      TRY(heard(context, operators(context).confirm_pairing({.site = token.site,
                                                             .ca_fingerprint = token.ca_fingerprint,
                                                             .identity = token.identity,
                                                             .secret = token.secret.clone(),
                                                             .name = name})));
  sys::JsonValue paired =
      TRY(context.client().post("/v1/pairing", {{"token_id", id.hex()},
                                                {"site_id", token.site.hex()},
                                                {"ca_fingerprint", token.ca_fingerprint.hex()},
                                                {"peer_address", token.address},
                                                {"address", address}}));
  return paired.is_object() ? paired.as_object() : sys::JsonObject();
}

Result<VmId> vm_named(const Context& context, const std::string& name) {
  if (Result<VmId> id = VmId::parse_hex(name); id.ok()) return id;
  sys::JsonValue vm = TRY(context.client().get("/v1/vms/" + url_escape(name)));
  if (!vm.is_object()) return Error{.code = ErrorCode::kCorrupt, .cause = "no VM was shown"};
  return VmId::parse_hex(TRY(sys::get_string(vm.as_object(), "id")));
}

Result<std::optional<SiteId>> recipient_named(const Context& context, const std::string& site) {
  const std::vector<vault::Recipient> all = TRY(heard(context, operators(context).recipients()));
  const auto has_id = [&](const vault::Recipient& one) { return one.identity.site.hex() == site; };
  const auto is_called = [&](const vault::Recipient& one) { return one.name == site; };
  auto chosen = std::ranges::find_if(all, has_id);
  if (chosen == all.end()) chosen = std::ranges::find_if(all, is_called);
  if (chosen == all.end()) return std::optional<SiteId>();
  // Of before names were unique.
  if (!has_id(*chosen) && std::ranges::count_if(all, is_called) > 1) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "more than one paired site is called \"" + site + "\"",
                 .effect = "nothing was done",
                 .mend = "name it by its id: holdfast site peers"};
  }
  return std::optional(chosen->identity.site);
}

Status say_no_recipient(const Context& context, const SiteId& site) {
  const Status done = operators(context).remove_recipient(site);
  if (!done.ok() && done.error().code == ErrorCode::kNotFound) return {};
  return heard(context, done);
}

Result<MemberWord> say_member(const Context& context, const std::string& vm,
                              const std::string& site) {
  const std::optional<SiteId> chosen = TRY(recipient_named(context, site));
  MemberWord word{.vm = TRY(vm_named(context, vm)), .site = std::nullopt};
  if (!chosen) return word;
  if (TRY(operators(context).add_member(word.vm, *chosen))) word.site = chosen;
  return word;
}

void take_back(const Context& context, const MemberWord& word) {
  if (word.site) static_cast<void>(operators(context).remove_member(word.vm, *word.site));
}

Result<std::string> say_word(const Context& context, const std::string& vm, title::Act act) {
  const VmId id = TRY(vm_named(context, vm));
  return TRY(heard(context, operators(context).give_word(id, act))).token.hex();
}

Status say_no_members(const Context& context, const VmId& vm) {
  return heard(context, operators(context).clear_members(vm));
}

}  // namespace hf::cli
