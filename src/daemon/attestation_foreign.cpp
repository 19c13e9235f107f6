// Evidence from anywhere, appraised as this site appraises its own VMs (RFC 9334, the background-
// check model): for a guest that has only tpm2-tools, and for other sites' VMs.
#include "attestation/evidence_appraisal.h"
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
  std::vector<crypto::Certificate> cas = TRY(trusted_cas(services_));
  attestation::EvidenceQuestion question{
      .nonce = nonce,
      .policy = &policy,
      .baseline = baseline.boots.empty() ? nullptr : &baseline,
      .cas = &cas,
      .context = {.record_from_keeper = false, .now = catalog_now()}};
  attestation::EvidenceAnswer judged = TRY(attestation::appraise_evidence(evidence, question));
  attestation::Ear ear = attestation::to_ear(judged, nonce);
  ear.issued_at = question.context.now;
  ear.expires_at = Micros(question.context.now.value + kForeignTokenLifeUs);
  sys::JsonObject answer = attestation::to_json(judged.appraisal);
  answer["verdict"] = verdict_text(judged.appraisal.verdict);
  answer["summary"] = judged.appraisal.summary();
  answer["attestation_key"] = judged.key_words;
  answer["token"] = TRY(sign(ear));
  return answer;
}

}  // namespace hf::daemon
