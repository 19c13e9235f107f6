// Whatever the keeper's answer holds, reading it ends, and what was read is encoded alike again.
#include "attestation/boot/measured_boot.h"
#include "attestation/log/extend_record.h"
#include "base/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf::attestation;
  auto record = parse_extend_record(hf::as_text(hf::fuzz_input(data, size)));
  if (!record.ok()) return 0;
  auto again = parse_extend_record(hf::sys::to_text(to_json(*record)));
  HF_ASSERT(again.ok() && *again == *record);
  (void)replay(*record, HashAlg::kSha256).ok();
  (void)MeasuredBoot::from({.record = &*record}, HashAlg::kSha256).ok();
  return 0;
}
