#include "vault/core/names.h"

#include <fmt/format.h>

namespace hf::vault {

std::string key_file_name(const VmId& vm) { return "key-" + vm.hex() + ".hfv"; }
std::string title_file_name(const VmId& vm) { return "title-" + vm.hex() + ".hfv"; }
std::optional<VmId> vm_of_title_file(std::string_view name) {
  constexpr std::string_view kPrefix = "title-";
  constexpr std::string_view kSuffix = ".hfv";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(kSuffix.size());
  const Result<VmId> vm = VmId::parse_hex(name);
  return vm.ok() ? std::optional(*vm) : std::nullopt;
}
std::string freshness_file_name(const VmId& vm) { return "freshness-" + vm.hex() + ".hfv"; }
std::string attestation_file_name(const VmId& vm) { return "attestation-" + vm.hex() + ".hfv"; }
std::string recipient_file_name(const SiteId& site) { return "recipient-" + site.hex() + ".hfv"; }
std::string members_file_name(const VmId& vm) { return "members-" + vm.hex() + ".hfv"; }
std::string offer_file_name(const PairingTokenId& id) { return "pairing-" + id.hex() + ".hfv"; }

Error no_key(const VmId& vm) {
  return Error{
      .code = ErrorCode::kNotFound,
      .cause = "this site's vault holds no key for VM " + vm.hex(),
      .effect = "the VM cannot be started or read here; no new key was made",
      .mend = "import its key from a site that holds it (holdfast protection enable there)"};
}

Error refused_by_title(const VmId& vm, const title::Refused& refused, std::string effect) {
  const bool ask = refused.action == title::Action::kAsk ||
                   refused.action == title::Action::kWait ||
                   refused.action == title::Action::kLearn;
  return Error{.code = ask ? ErrorCode::kUnavailable : ErrorCode::kConflict,
               .cause = fmt::format("the title of VM {} does not allow it: {}", vm.hex(),
                                    title::to_string(refused.cause)),
               .effect = std::move(effect)};
}

Error key_conflict(const VmId& vm, const KeyId& here, KeyVersion version,
                   const WrapFacts& offered) {
  return Error{
      .code = ErrorCode::kConflict,
      .cause = fmt::format("VM {} has key {} (version {}) here, and the wrap carries key {} "
                           "(version {})",
                           vm.hex(), here.hex(), version.value, offered.key_id.hex(),
                           offered.version.value),
      .effect = "the key here was kept; the other was not imported",
      .mend =
          "find out which of the two opens the VM's journal, and delete the VM at the "
          "other site"};
}

Status check_wrap(const ParsedWrap& wrap, const VmId& vm, const SiteIdentity& peer,
                  const SiteIdentity& self, const crypto::SpkiKey& own_key) {
  constexpr std::string_view kEffect = "the key was not imported; nothing was changed";
  if (!wrap_signed_by(wrap, peer.signing_public_key)) {
    return Error{
        .code = ErrorCode::kWrongKey,
        .cause = "the key wrap is not signed by the vault of site " + peer.name,
        .effect = std::string(kEffect),
        .mend = "have it wrapped again there; if that site's vault was made anew, pair again"};
  }
  if (wrap.facts.vm != vm) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "the key wrap is for VM " + wrap.facts.vm.hex() + ", not " + vm.hex(),
                 .effect = std::string(kEffect),
                 .mend = "import it for the VM it was made for"};
  }
  if (wrap.facts.recipient != self.site || wrap.facts.recipient_key != own_key.fingerprint()) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the key wrap was made for another site or another key of this site",
                 .effect = std::string(kEffect),
                 .mend = "pair the two sites again, then have it wrapped for this one"};
  }
  return {};
}

}  // namespace hf::vault
