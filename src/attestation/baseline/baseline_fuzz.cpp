// Whatever the text, reading a baseline ends; what was read is written alike again.
#include "attestation/baseline/baseline.h"
#include "base/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf::attestation;
  auto baseline = parse_baseline(hf::as_text(hf::fuzz_input(data, size)));
  if (!baseline.ok()) return 0;
  std::string text = hf::sys::to_text(to_json(*baseline));
  auto again = parse_baseline(text);
  HF_ASSERT(!again.ok() || *again == *baseline);
  for (const BaselineBoot& boot : baseline->boots) {
    for (const PlannedChange& change : baseline->planned) (void)expected_after(boot, change);
  }
  return 0;
}
