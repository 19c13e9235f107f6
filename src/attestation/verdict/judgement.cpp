#include "attestation/verdict/judgement.h"

#include <algorithm>

namespace hf::attestation {

void judge_stuck(Appraisal& appraisal) {
  if (appraisal.verdict == Verdict::kHealthy) appraisal.verdict = Verdict::kUnknown;
  // The appraisal's own words for it say less than is known here.
  std::erase_if(appraisal.reasons, [](const Reason& r) { return r.code == "boot_not_finished"; });
  Reason reason{.severity = Severity::kUnknown,
                .code = "no_hand_over",
                .words =
                    "the firmware did not hand over to an operating system within 60 seconds: it "
                    "found none, refused one that is not signed by an allowed key, or waits at a "
                    "menu",
                .mend =
                    "look at the console (holdfast vm console VM); holdfast vm check says which "
                    "boot parts the VM's keys allow"};
  const auto behind_failures = std::ranges::find_if(
      appraisal.reasons, [](const Reason& r) { return r.severity != Severity::kFailure; });
  appraisal.reasons.insert(behind_failures, std::move(reason));
}

void say_vault_away(Appraisal& appraisal, const Error& error) {
  for (Reason& reason : appraisal.reasons) {
    if (reason.code != "key_not_enrolled") continue;
    reason.code = "vault_away";
    reason.words = "the vault could not be asked for the VM's attestation key (" + error.cause +
                   "), so nothing says whose quote it is";
    reason.mend = "nothing, as a rule: the boot is appraised again when the vault is back";
  }
}

bool shows_older_state(const Appraisal& appraisal) {
  return std::ranges::any_of(appraisal.reasons, [](const Reason& reason) {
    return reason.code == "tpm_went_back" || reason.code == "state_rolled_back";
  });
}

Learning learning_due(const AppraisalInput& input, const Appraisal& appraisal,
                      const std::string& boot, const LearnedBoot& learned) {
  if (!input.policy->compares_with_baseline()) return Learning::kNo;
  if (input.baseline == nullptr || input.baseline->boots.empty()) {
    Policy trial = *input.policy;
    trial.baseline = Need::kOptional;
    AppraisalInput without = input;
    without.policy = &trial;
    return appraise(without).verdict == Verdict::kHealthy ? Learning::kFirst : Learning::kNo;
  }
  const bool more_words =
      (input.log != nullptr && !learned.log) || (!input.files.empty() && !learned.files);
  const bool this_boot = learned.boot == boot && input.baseline->boots.size() == 1 &&
                         input.baseline->boots.front().boot_id == boot;
  return more_words && this_boot && appraisal.verdict == Verdict::kHealthy ? Learning::kAgain
                                                                           : Learning::kNo;
}

Status learn_boot(Baseline& baseline, BaselineBoot boot, Learning learning, const std::string& vm) {
  const bool as_seen =
      learning == Learning::kFirst
          ? baseline.boots.empty()
          : baseline.boots.size() == 1 && baseline.boots.front().boot_id == boot.boot_id;
  if (!as_seen) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "a baseline was accepted while the boot was appraised",
                 .effect = "the boot was not learned",
                 .mend = "holdfast attest check " + vm};
  }
  accept(baseline, std::move(boot), AcceptMode::kReplace);
  return {};
}

Reason baseline_learned(const std::string& vm) {
  return {.severity = Severity::kNote,
          .code = "baseline_learned",
          .words = "the VM had no baseline: what this boot measured is its baseline from now on",
          .mend = "holdfast attest baseline show " + vm};
}

bool carries_out_planned(const Appraisal& appraisal) {
  return appraisal.verdict == Verdict::kHealthy && !appraisal.planned_changes.empty();
}

Status carry_out_planned(Baseline& baseline, const MeasuredBoot& boot, const AppraisalInput& input,
                         const std::string& boot_id) {
  const Explanations explanations{.files = input.files};
  const BaselineMatch match =
      TRY(best_match(baseline, boot, *input.policy, explanations, input.context.now));
  if (match.planned.empty() || !match.agrees()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the change that this boot carries out is announced no longer",
                 .effect = "the baseline stays as it is",
                 .mend = "holdfast attest check VM"};
  }
  return consume(baseline, match, TRY(learn(boot, explanations, boot_id, input.context.now)));
}

}  // namespace hf::attestation
