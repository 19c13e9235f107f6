// What a change of Secure Boot's variables will do to a VM's next boot: predicted from the present
// one and from the programs on its disk.
#pragma once

#include <string>
#include <vector>

#include "attestation/baseline/baseline.h"
#include "attestation/boot/measured_boot.h"
#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"
#include "secure_boot/preflight/signed_program.h"

namespace hf::attestation {

struct KeyPlan {
  std::string pcr7_now;  // SHA-256, hex
  std::string pcr7_then;
  PlannedChange change;
  bool certain = true;      // false: which certificate will vouch for a program is a guess
  bool handed_over = true;  // the present boot has: what it measured is all that a boot measures
  secure_boot::SecureBootVariables before;
  secure_boot::SecureBootVariables after;
  PlannedChange way_back;
  std::vector<secure_boot::Change> back;  // the changes that undo it
};

// Views: what they name outlives the call.
struct KeyPlanInput {
  const MeasuredBoot* boot = nullptr;  // the present one
  const BaselineBoot* learned = nullptr;
  ByteSpan pcr7;  // as it was quoted, SHA-256
  const std::vector<secure_boot::SignedProgram>* programs = nullptr;
  std::string words;  // what is changed
  Micros now;
};
// kExists: the changes change nothing; kNotFound: it cannot be said which certificate would vouch
// for the VM's boot loader; kConflict: a program would not start then.
Result<KeyPlan> plan_key_change(const KeyPlanInput& input, secure_boot::SecureBootVariables before,
                                secure_boot::SecureBootVariables after);

// By name, as measurements know them.
KeyVariables key_variables(const secure_boot::SecureBootVariables& variables);

}  // namespace hf::attestation
