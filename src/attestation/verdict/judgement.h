// What is made of an appraisal of a running VM, given what is known beside the evidence: firmware
// that hangs, a vault that is away, a first boot to learn, a planned change that came.
//
// Pure: who calls keeps what is decided here.
#pragma once

#include <string>

#include "attestation/appraisal/appraisal.h"

namespace hf::attestation {

// Firmware that never hands over measures nothing of an operating system: no verdict can be good.
void judge_stuck(Appraisal& appraisal);

// The vault could not be asked which attestation key is the VM's: that is not "not enrolled".
void say_vault_away(Appraisal& appraisal, const Error& error);

// Whether the appraisal found the VM's state, or its TPM's, to be older than what was seen before.
// An older state does not become the measure by being looked at twice.
bool shows_older_state(const Appraisal& appraisal);

// The boot that was learned as the first baseline, and what there was for its words.
struct LearnedBoot {
  std::string boot;  // empty: none was
  bool log = false;
  bool files = false;
};

enum class Learning : uint8_t {
  kNo,
  kFirst,  // the VM has no baseline: this boot becomes it
  kAgain,  // learned a moment ago, without words that are there now
};
// `appraisal` is that of `input`; `boot` its boot's id. A first boot is learned only if the policy
// has nothing against it but that there is no baseline.
Learning learning_due(const AppraisalInput& input, const Appraisal& appraisal,
                      const std::string& boot, const LearnedBoot& learned);
// Into the baseline as it is stored now. kConflict: it is not as it was when `learning` was
// decided; nothing was changed.
Status learn_boot(Baseline& baseline, BaselineBoot boot, Learning learning, const std::string& vm);
// To be said with the verdict of the boot that was learned first.
Reason baseline_learned(const std::string& vm);

// Whether this boot carried out what was announced, and is right: the baseline follows it.
bool carries_out_planned(const Appraisal& appraisal);
// The baseline after it: matched anew, since others may have changed it meanwhile. kConflict: what
// was announced was withdrawn by then, and nothing was changed.
Status carry_out_planned(Baseline& baseline, const MeasuredBoot& boot, const AppraisalInput& input,
                         const std::string& boot_id);

}  // namespace hf::attestation
