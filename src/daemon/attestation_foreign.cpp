// Evidence from anywhere, appraised as this site appraises its own VMs (RFC 9334, the background-
// check model): for a guest that has only tpm2-tools, and for other sites' VMs.
#include <algorithm>

#include "attestation/ak_certificate.h"
#include "base/base64.h"
#include "daemon/attestation_inner.h"
#include "daemon/catalog_inner.h"
#include "daemon/peer_service.h"

namespace hf::daemon {
namespace {

constexpr uint64_t kForeignTokenLifeUs = uint64_t{3600} * 1'000'000;

Result<attestation::Policy> wanted_policy(const sys::JsonObject& request) {
  const sys::JsonValue* policy = request.if_contains("policy");
  if (policy == nullptr || policy->is_null()) return attestation::built_in_policy("linux");
  if (policy->is_string()) return attestation::built_in_policy(policy->get_string());
  return attestation::policy_from(*TRY(sys::get_object(request, "policy")));
}

// This site's certificate authority and those of paired sites.
Result<std::vector<crypto::Certificate>> trusted_cas(Services& services) {
  std::vector<crypto::Certificate> cas;
  cas.push_back(
      TRY(crypto::Certificate::from_pem(TRY(services.vault.site_identity()).ca_certificate_pem)));
  for (const PeerRow& peer : TRY(services.catalog->peers())) {
    cas.push_back(TRY(crypto::Certificate::from_pem(peer.ca_pem)));
  }
  return cas;
}

struct Foreign {
  std::optional<attestation::EventLog> log;
  std::optional<attestation::ExtendRecord> record;
  std::optional<attestation::QuotedPcrs> quote;
  attestation::KeyVariables variables;
};

}  // namespace

Result<sys::JsonObject> Attestation::appraise_foreign(const sys::JsonObject& request) {
  attestation::Evidence evidence =
      TRY(attestation::parse_evidence(sys::to_text(*TRY(sys::get_object(request, "evidence")))));
  Bytes nonce = TRY(base64url_decode(TRY(sys::get_string(request, "nonce"))));
  attestation::Policy policy = TRY(wanted_policy(request));
  attestation::Baseline baseline;
  if (sys::has_member(request, "baseline")) {
    baseline = TRY(attestation::baseline_from(*TRY(sys::get_object(request, "baseline"))));
  }
  Foreign parts;
  attestation::AppraisalInput input;
  input.policy = &policy;
  if (!baseline.boots.empty()) input.baseline = &baseline;
  input.context.now = catalog_now();
  input.context.record_from_keeper = false;
  input.context.site = services_.site.site_id;

  Result<attestation::QuotedPcrs> quote = verify_quote(evidence, {.nonce = nonce});
  if (quote.ok()) {
    parts.quote = std::move(quote).value();
    input.quote = &*parts.quote;
  } else {
    input.quote_error = quote.error();
  }
  std::string certificate_words = "no certificate of the attestation key";
  if (evidence.ak_certificate) {
    attestation::TpmPublic ak = TRY(attestation::parse_public(evidence.ak_public));
    Result<attestation::AkIdentity> identity = attestation::check_ak_certificate(
        *evidence.ak_certificate, ak, TRY(trusted_cas(services_)), input.context.now);
    input.context.ak_certified = identity.ok();
    if (identity.ok()) input.context.vm = identity->vm;
    certificate_words =
        identity.ok() ? "certified as VM " + identity->vm.hex() : identity.error().cause;
  }
  if (evidence.event_log) {
    Result<attestation::EventLog> log = attestation::EventLog::parse(*evidence.event_log);
    if (log.ok()) {
      parts.log = std::move(log).value();
      input.log = &*parts.log;
    } else {
      input.log_error = log.error();
    }
  }
  if (evidence.extends) {
    parts.record = TRY(attestation::extend_record_from(*evidence.extends));
    input.record = &*parts.record;
  }
  if (!evidence.secure_boot.empty()) {
    for (const auto& [name, content] : evidence.secure_boot) parts.variables[name] = content;
    input.variables = &parts.variables;
  }
  attestation::Appraisal appraisal = attestation::appraise(input);
  attestation::Ear ear = attestation::to_ear(appraisal, input.context);
  ear.issued_at = input.context.now;
  ear.expires_at = Micros(input.context.now.value + kForeignTokenLifeUs);
  ear.nonce = nonce;
  ear.evidence_nonce = nonce;
  if (!input.context.ak_certified) ear.vm.vm = std::nullopt;
  sys::JsonObject answer = attestation::to_json(appraisal);
  answer["verdict"] = verdict_text(appraisal.verdict);
  answer["summary"] = appraisal.summary();
  answer["attestation_key"] = certificate_words;
  answer["token"] = TRY(sign(ear));
  return answer;
}

}  // namespace hf::daemon
