#include "attestation/rollover/key_plan.h"

#include "attestation/baseline/pcr7.h"
#include "secure_boot/preflight/boot_option.h"

namespace hf::attestation {
namespace {

constexpr uint64_t kWeekUs = uint64_t{7} * 86400 * 1'000'000;

// The present boot's own PCR 7, as an announcement of going back to it.
PlannedChange back_to(const BaselineBoot& boot, const KeyVariables& variables) {
  PlannedChange change{.why = "the roll-over of the Secure Boot keys is taken back",
                       .variables = variables};
  PlannedChange::Sequence sequence{.pcr = 7};
  for (const BaselineEntry& entry : boot.entries) {
    if (entry.pcr == 7) sequence.entries.push_back(entry);
  }
  change.sequences.push_back(std::move(sequence));
  return change;
}

}  // namespace

KeyVariables key_variables(const secure_boot::SecureBootVariables& variables) {
  KeyVariables all;
  auto add = [&all](std::string_view name, const std::optional<Bytes>& content) {
    if (content) all[std::string(name)] = *content;
  };
  add("PK", variables.pk);
  add("KEK", variables.kek);
  add("db", variables.db);
  add("dbx", variables.dbx);
  add("MokList", variables.mok);
  add("MokListX", variables.mokx);
  add("SbatLevel", variables.sbat_level);
  return all;
}

Result<KeyPlan> plan_key_change(const KeyPlanInput& input, secure_boot::SecureBootVariables before,
                                secure_boot::SecureBootVariables after) {
  KeyPlan plan;
  plan.back = secure_boot::changes_between(after, before);
  if (plan.back.empty()) {
    return Error{.code = ErrorCode::kExists,
                 .cause = "the VM's keys are so already",
                 .effect = "nothing was changed"};
  }
  const KeyVariables was = key_variables(before);
  const KeyVariables is = key_variables(after);
  const Pcr7Prediction prediction =
      TRY(predict_pcr7({.previous = input.boot,
                        .before = was,
                        .after = is,
                        .authorities_before = secure_boot::authorities_of(
                            *input.programs, TRY(secure_boot::secure_boot_state_of(before))),
                        .authorities_after = secure_boot::authorities_of(
                            *input.programs, TRY(secure_boot::secure_boot_state_of(after)))}));
  plan.pcr7_now = to_hex(input.pcr7);
  plan.pcr7_then = to_hex(prediction.value);
  plan.certain = prediction.certain;
  plan.handed_over = input.boot->exited_boot_services();
  plan.change = key_change(prediction, is, "roll-over of the Secure Boot keys: " + input.words,
                           Micros(input.now.value + kWeekUs));
  plan.way_back = back_to(*input.learned, was);
  plan.before = std::move(before);
  plan.after = std::move(after);
  return plan;
}

}  // namespace hf::attestation
