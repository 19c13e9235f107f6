// Whatever the text, reading a policy ends; what was read keeps its meaning through its own text.
#include "attestation/policy/policy.h"
#include "base/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = hf::as_text(hf::fuzz_input(data, size));
  auto policy = hf::attestation::parse_policy(text);
  if (!policy.ok()) return 0;
  auto again = hf::attestation::parse_policy(hf::sys::to_text(to_json(*policy)));
  HF_ASSERT(!again.ok() || *again == *policy);
  (void)broken_rule(policy->kernel_command_line, text);
  return 0;
}
