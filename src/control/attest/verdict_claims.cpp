#include "control/attest/verdict_claims.h"

#include <algorithm>

#include "base/text.h"

namespace hf::control {
namespace {

constexpr uint64_t kMicrosPerSecond = 1'000'000;

vault::CopyRole role_of(const std::optional<attestation::VmRole>& role) {
  if (!role) return vault::CopyRole::kNotSaid;
  switch (*role) {
    case attestation::VmRole::kProduction:
      return vault::CopyRole::kProduction;
    case attestation::VmRole::kDrill:
      return vault::CopyRole::kDrill;
    case attestation::VmRole::kBranch:
      return vault::CopyRole::kBranch;
  }
  return vault::CopyRole::kNotSaid;
}

vault::StateAge age_of(std::string_view freshness) {
  if (freshness == "current") return vault::StateAge::kCurrent;
  if (freshness == "older-declared") return vault::StateAge::kOlderDeclared;
  return freshness == "older" ? vault::StateAge::kOlder : vault::StateAge::kUnknown;
}

vault::VerdictWord verdict_of(std::string_view verdict) {
  if (verdict == "Healthy") return vault::VerdictWord::kHealthy;
  return verdict == "Unhealthy" ? vault::VerdictWord::kUnhealthy : vault::VerdictWord::kUnknown;
}

}  // namespace

vault::VerdictClaims claims_of(const attestation::Ear& ear) {
  HF_ASSERT(ear.expires_at && *ear.expires_at > ear.issued_at);
  vault::VerdictClaims claims{.vm = ear.vm.vm,
                              .epoch = ear.vm.epoch,
                              .incarnation = ear.vm.incarnation,
                              .sequence = ear.vm.sequence,
                              .role = role_of(ear.vm.role),
                              .age = age_of(ear.vm.freshness),
                              .verdict = verdict_of(ear.vm.verdict),
                              .trust = {},
                              .policy_ids = ear.policy_ids,
                              .nonce = ear.nonce,
                              .evidence_nonce = ear.evidence_nonce,
                              .reasons = {},
                              .life_s = static_cast<uint32_t>(std::min<uint64_t>(
                                  (ear.expires_at->value - ear.issued_at.value) / kMicrosPerSecond,
                                  vault::kMaxVerdictLife))};
  for (size_t i = 0; i < claims.trust.size(); ++i) {
    claims.trust[i] = ear.vector.get(static_cast<attestation::TrustClaim>(i));
  }
  for (const attestation::EarReason& reason : ear.vm.reasons) {
    if (claims.reasons.size() == vault::kMaxVerdictReasons) break;
    claims.reasons.push_back({.code = reason.code.substr(0, vault::kMaxReasonCode),
                              .words = clean_text(reason.words, vault::kMaxReasonWords)});
  }
  return claims;
}

}  // namespace hf::control
