// Reads everything the vault keeps, and says what is wrong with it.

#include "vault/core/names.h"
#include "vault/core/vault.h"

namespace hf::vault {
namespace {

constexpr size_t kAuditMax = size_t{1} << 30;
constexpr std::string_view kSuffix = ".hfv";

// The id in "PREFIX-HEX.hfv".
template <typename Id>
std::optional<Id> id_in(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  name.remove_suffix(kSuffix.size());
  const auto id = Id::parse_hex(name);
  return id.ok() ? std::optional<Id>(*id) : std::nullopt;
}

}  // namespace

Result<CheckSummary> Vault::check() const {
  CheckSummary summary;
  const auto note = [&](const auto& result, uint64_t& count) {
    ++count;
    if (!result.ok()) summary.problems.push_back(result.error().cause);
  };
  const std::vector<std::string> names = TRY(directory_.list());
  for (const std::string& name : names) {
    if (const auto key = id_in<VmId>(name, "key-")) {
      note(load_key(*key), summary.keys);
    } else if (const auto vm = id_in<VmId>(name, "freshness-")) {
      note(titles_.check_freshness(*vm), summary.freshness_records);
    } else if (const auto titled = id_in<VmId>(name, "title-")) {
      note(titles_.check(*titled), summary.titles);
    } else if (const auto attested = id_in<VmId>(name, "attestation-")) {
      note(load_attestation(*attested), summary.attestation_records);
    } else if (name == kAttestationKeyFileName) {
      note(load_attestation_key(), summary.attestation_records);
    } else if (const auto site = id_in<SiteId>(name, "recipient-")) {
      note(load_recipient(*site), summary.recipients);
    } else if (const auto of = id_in<VmId>(name, "members-")) {
      note(load_members(*of), summary.member_records);
    } else if (const auto token = id_in<PairingTokenId>(name, "pairing-")) {
      note(load_offer(*token), summary.pairing_tokens);
    } else if (name != kSiteFileName && name != kHostSecretName && name != kAuditName &&
               name != "lock" && !name.ends_with(".tmp")) {
      summary.problems.push_back(directory_.path() + "/" + name + " is not the vault's");
    }
  }
  const Bytes log = TRY(directory_.read(std::string(kAuditName), kAuditMax));
  const Result<AuditSummary> audit = verify_audit_log(as_text(log));
  if (audit.ok()) {
    summary.audit = *audit;
  } else {
    summary.problems.push_back(audit.error().cause);
  }
  return summary;
}

}  // namespace hf::vault
