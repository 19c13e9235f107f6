#include "attestation/appraisal/appraisal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attestation/appraisal/appraisal_inner.h"
#include "attestation/boot/known_measurements.h"
#include "base/text.h"

namespace hf::attestation {
namespace {

constexpr std::string_view kIncarnationMark = "holdfast incarnation";

// What stands behind the system's start is the system's only if the order is vouched for. Where the
// order is the attester's word, a loader's extend may have been moved there.
void judge_order(const AppraisalInput& input, const MeasuredBoot& boot, Judge& judge) {
  for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
    if (!boot.unplaced()[pcr] || !matters(input.policy->pcrs[pcr].rule)) continue;
    Reason& reason = judge.unknown(
        TrustClaim::kExecutables, "order_not_vouched",
        fmt::format("PCR {} was extended after the start of the operating system, says the "
                    "evidence; a quote does not prove when, so it may have been before",
                    pcr));
    reason.mend =
        "ask the VM's own site (holdfast attest check VM): its keeper saw the order; or quote "
        "before the system extends this register";
    reason.pcr = pcr;
  }
}

void judge_boot(const AppraisalInput& input, const Vouched& vouched, HashAlg bank, Judge& judge,
                Appraisal& appraisal) {
  static const KeyVariables kNone;
  Result<MeasuredBoot> boot =
      MeasuredBoot::from({.log = vouched.log,
                          .record = vouched.record,
                          .variables = input.variables != nullptr ? input.variables : &kNone,
                          .pcrs = vouched.pcrs,
                          .order_vouched = vouched.order},
                         bank);
  if (!boot.ok()) {
    judge.unknown(TrustClaim::kExecutables, "evidence_unusable", boot.error().cause);
    return;
  }
  if (!boot->exited_boot_services()) {
    judge
        .unknown(
            TrustClaim::kExecutables, "boot_not_finished",
            fmt::format("the VM has not come to the start of an operating system; {} extends so "
                        "far",
                        boot->measurements().size()))
        .mend =
        "look at the VM's console; a loader that is not signed by a key in db stops here "
        "(holdfast vm check VM says which)";
    return;
  }
  BootFacts facts = read_facts(*boot);
  BootJudgement judgement{.boot = &*boot, .facts = &facts, .policy = input.policy};
  std::optional<BaselineMatch> match;
  bool has_baseline = input.baseline != nullptr && !input.baseline->boots.empty();
  if (has_baseline && input.policy->compares_with_baseline()) {
    Result<BaselineMatch> found = best_match(*input.baseline, *boot, *input.policy,
                                             Explanations{input.files}, input.context.now);
    if (found.ok()) {
      match = std::move(*found);
      judgement.match = &*match;
      judgement.matched = &input.baseline->boots[match->boot];
      appraisal.planned_changes = match->planned;
    } else {
      judge.unknown(TrustClaim::kExecutables, "baseline_unusable", found.error().cause);
    }
  }
  judge_order(input, *boot, judge);
  judge_secure_boot(input, judgement, judge);
  judge_baseline(input, judgement, judge);
  judge_values(input, vouched, bank, judge);
  judge_command_lines(input, judgement, judge);
  judge_role_marks(input, judgement, vouched, judge);
  judge_variables(input, judgement, judge);
  if (vouched.log != nullptr) judge_unproven(*vouched.log, judge);
  appraisal.secure_boot = facts.secure_boot;
  for (const Authority& authority : facts.authorities) {
    appraisal.authorities.push_back(authority.source + ": " + authority.common_name);
  }
  if (!facts.command_lines.empty()) {
    appraisal.kernel_command_line = text_of(*facts.command_lines.back(), judgement);
  }
}

}  // namespace

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHealthy:
      return "Healthy";
    case Verdict::kUnhealthy:
      return "Unhealthy";
    case Verdict::kUnknown:
      return "Unknown";
  }
  return "Unknown";
}

std::string_view name_of(Severity severity) {
  switch (severity) {
    case Severity::kFailure:
      return "failure";
    case Severity::kUnknown:
      return "unknown";
    case Severity::kNote:
      return "note";
  }
  return "note";
}

HashValue role_marker(VmRole role, HashAlg alg) {
  HF_ASSERT(role != VmRole::kProduction);
  return hash(alg, as_bytes(role == VmRole::kDrill ? kDrillMarker : kBranchMarker));
}

HashValue incarnation_marker(const IncarnationId& incarnation, HashAlg alg) {
  return hash(alg, as_bytes(kIncarnationMark), incarnation.span());
}

Appraisal appraise(const AppraisalInput& input) {
  HF_ASSERT(input.policy != nullptr);
  Judge judge;
  Appraisal appraisal;
  appraisal.policy_id = input.policy->id.empty() ? policy_id(*input.policy) : input.policy->id;
  judge_identity(input, judge);
  judge_freshness(input, judge);
  if (input.quote != nullptr) {
    appraisal.counters = TpmCounters{.clock = input.quote->clock.clock_ms,
                                     .reset_count = input.quote->clock.reset_count,
                                     .restart_count = input.quote->clock.restart_count};
  }
  std::optional<HashAlg> bank = choose_bank(input);
  if (!bank) {
    judge
        .unknown(TrustClaim::kExecutables, "no_common_bank",
                 "the evidence has no bank of PCRs that the policy takes")
        .mend = "quote and log a bank of the policy's \"banks\"";
  } else {
    Vouched vouched = judge_evidence(input, *bank, judge);
    if (vouched.any()) {
      judge_boot(input, vouched, *bank, judge, appraisal);
    } else if (!judge.failed()) {
      judge.unknown(TrustClaim::kExecutables, "no_evidence",
                    "there is no evidence of this boot that could be judged");
    }
  }
  appraisal.verdict = judge.verdict();
  appraisal.trust = judge.trust();
  appraisal.reasons = judge.take_reasons();
  return appraisal;
}

std::string Appraisal::summary() const {
  std::string line(name_of(verdict));
  if (verdict != Verdict::kHealthy && !reasons.empty()) line += ": " + reasons.front().words;
  return line;
}

sys::JsonObject to_json(const Reason& reason) {
  sys::JsonObject object;
  object["severity"] = name_of(reason.severity);
  object["code"] = reason.code;
  object["words"] = reason.words;
  if (!reason.mend.empty()) object["mend"] = reason.mend;
  if (reason.event) object["event"] = *reason.event;
  if (reason.pcr) object["pcr"] = *reason.pcr;
  if (reason.nth) object["nth"] = *reason.nth;
  if (reason.extend) object["extend"] = *reason.extend;
  return object;
}

sys::JsonObject to_json(const Appraisal& appraisal) {
  sys::JsonObject object;
  object["verdict"] = name_of(appraisal.verdict);
  sys::JsonArray reasons;
  for (const Reason& reason : appraisal.reasons) reasons.emplace_back(to_json(reason));
  object["reasons"] = std::move(reasons);
  sys::JsonObject trust;
  for (size_t i = 0; i < kTrustClaims; ++i) {
    auto claim = static_cast<TrustClaim>(i);
    if (std::optional<int8_t> value = appraisal.trust.get(claim)) trust[to_string(claim)] = *value;
  }
  object["trust"] = std::move(trust);
  object["policy"] = appraisal.policy_id;
  object["planned_changes"] =
      sys::JsonArray(appraisal.planned_changes.begin(), appraisal.planned_changes.end());
  object["secure_boot"] = nullptr;
  if (appraisal.secure_boot) object["secure_boot"] = *appraisal.secure_boot;
  object["kernel_command_line"] = appraisal.kernel_command_line;
  object["authorities"] =
      sys::JsonArray(appraisal.authorities.begin(), appraisal.authorities.end());
  return object;
}

Ear to_ear(const Appraisal& appraisal, const AppraisalContext& context) {
  Ear ear;
  ear.issued_at = context.now;
  ear.vector = appraisal.trust;
  TrustTier worst = appraisal.trust.worst();
  switch (appraisal.verdict) {
    case Verdict::kHealthy:
      ear.status = worst;
      break;
    case Verdict::kUnhealthy:
      ear.status = TrustTier::kContraindicated;
      break;
    case Verdict::kUnknown:
      ear.status = worst > TrustTier::kAffirming ? worst : TrustTier::kNone;
      break;
  }
  ear.policy_ids = {appraisal.policy_id};
  ear.vm.vm = context.vm;
  ear.vm.site = context.site;
  ear.vm.epoch = context.epoch;
  ear.vm.incarnation = context.incarnation;
  ear.vm.sequence = context.sequence;
  ear.vm.role = context.role;
  ear.vm.freshness = freshness_words(context, appraisal);
  ear.vm.verdict = name_of(appraisal.verdict);
  for (const Reason& reason : appraisal.reasons) {
    if (reason.severity == Severity::kNote || ear.vm.reasons.size() == kEarReasonsMax) continue;
    ear.vm.reasons.push_back(
        {.code = reason.code, .words = clean_text(reason.words, kEarReasonWordsMax)});
  }
  return ear;
}

}  // namespace hf::attestation
