// Evidence from anywhere, appraised as this site appraises its own VMs (RFC 9334, the background-
// check model): for a guest that has only tpm2-tools, and for other sites' VMs.
#include <functional>

#include "attestation/appraisal/evidence_appraisal.h"
#include "base/base64.h"
#include "control/attest/attestation_inner.h"
#include "control/peers/peer_service.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"

namespace hf::control {
namespace {

constexpr uint64_t kForeignTokenLifeUs = uint64_t{3600} * 1'000'000;

// By what evidence is judged.
struct Rules {
  attestation::Policy policy;
  attestation::Baseline baseline;
  std::optional<Bytes> pinned_ak_name;
  bool askers = false;
};

Result<attestation::Policy> wanted_policy(const sys::JsonObject& request) {
  const sys::JsonValue* policy = request.if_contains("policy");
  if (policy == nullptr || policy->is_null()) return attestation::built_in_policy("linux");
  if (policy->is_string()) return attestation::built_in_policy(policy->get_string());
  return attestation::policy_from(*TRY(sys::get_object(request, "policy")));
}

Result<Rules> askers_rules(const sys::JsonObject& request) {
  Rules rules{.policy = TRY(wanted_policy(request))};
  rules.askers = sys::has_member(request, "policy") || sys::has_member(request, "baseline");
  if (sys::has_member(request, "baseline")) {
    rules.baseline = TRY(attestation::baseline_from(*TRY(sys::get_object(request, "baseline"))));
  }
  return rules;
}

// This site's certificate authority and those of paired sites, of which `counts` says so.
Result<std::vector<crypto::Certificate>> trusted_cas(
    Services& services, const std::function<bool(const SiteId&)>& counts) {
  std::vector<crypto::Certificate> cas;
  cas.push_back(
      TRY(crypto::Certificate::from_pem(TRY(services.vault.site_identity()).ca_certificate_pem)));
  for (const PeerRow& peer : TRY(services.catalog->peers())) {
    if (counts(peer.site)) cas.push_back(TRY(crypto::Certificate::from_pem(peer.ca_pem)));
  }
  return cas;
}

// The VM, if this site knows it.
Result<std::optional<VmRow>> known_vm(Catalog& catalog, VmId vm) {
  Result<VmRow> row = catalog.vm(vm);
  if (row.ok()) return std::optional<VmRow>(std::move(*row));
  if (row.error().code == ErrorCode::kNotFound) return std::optional<VmRow>();
  return std::move(row).error();
}

}  // namespace

Result<sys::JsonObject> Attestation::appraise_foreign(const sys::JsonObject& request) {
  attestation::Evidence evidence =
      TRY(attestation::parse_evidence(sys::to_text(*TRY(sys::get_object(request, "evidence")))));
  Bytes nonce = TRY(base64url_decode(TRY(sys::get_string(request, "nonce"))));
  std::vector<crypto::Certificate> cas =
      TRY(trusted_cas(services_, [](const SiteId&) { return true; }));
  Rules rules = TRY(askers_rules(request));
  // This site's word on its own VM is by the rules that were set for it, or it could be had for any
  // state of the VM.
  const Result<attestation::AkIdentity> named =
      attestation::certified_key(evidence, cas, catalog_now());
  std::optional<VmRow> row;
  if (named.ok()) row = TRY(known_vm(*services_.catalog, named->vm));
  // Of a VM that is not here any paired site could certify whatever it likes.
  if (named.ok() && !row) {
    cas = TRY(trusted_cas(services_, [&](const SiteId& site) {
      const Result<bool> had_to_do_with_it = services_.catalog->was_counterpart(named->vm, site);
      return had_to_do_with_it.ok() && *had_to_do_with_it;
    }));
  }
  if (row) {
    if (rules.askers) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "the evidence is of VM \"" + row->name +
                            "\", for which this site has a policy and a baseline",
                   .effect = "nothing was appraised",
                   .mend =
                       "leave policy and baseline out; to judge by your own, without a token: "
                       "holdfast attest appraise"};
    }
    rules.policy = TRY(stored_policy(row->id));
    rules.baseline = TRY(stored_baseline(row->id));
    Result<vault::AttestationPin> pin = services_.vault.attestation_pinned(row->id);
    if (!pin.ok() && pin.error().code != ErrorCode::kNotFound) return std::move(pin).error();
    if (pin.ok()) rules.pinned_ak_name = std::move(pin->ak_name);
    // Another paired site could certify a key of its own for this VM.
    const std::optional<SiteId> enrolled_at =
        pin.ok() ? std::optional(pin->certified_by) : std::nullopt;
    const Result<ProtectionRow> protection = services_.catalog->protection(row->id);
    cas = TRY(trusted_cas(services_, [&](const SiteId& site) {
      return may_vouch(*row, protection, enrolled_at, site);
    }));
  }
  attestation::EvidenceQuestion question{
      .nonce = nonce,
      .policy = &rules.policy,
      .baseline = rules.baseline.boots.empty() ? nullptr : &rules.baseline,
      .askers_rules = rules.askers,
      .cas = &cas,
      .context = {.pinned_ak_name = rules.pinned_ak_name,
                  .record_from_keeper = false,
                  .now = catalog_now()}};
  attestation::EvidenceAnswer judged = TRY(attestation::appraise_evidence(evidence, question));
  attestation::Ear ear = attestation::to_ear(judged, nonce);
  ear.issued_at = question.context.now;
  ear.expires_at = Micros(question.context.now.value + kForeignTokenLifeUs);
  sys::JsonObject answer = attestation::to_json(judged.appraisal);
  answer["summary"] = judged.appraisal.summary();
  answer["attestation_key"] = judged.key_words;
  answer["token"] = TRY(sign(ear));
  return answer;
}

}  // namespace hf::control
