// Hostile event logs: parsing, cover, words, JSON and the search for differences.
#include "attestation/boot/event_log_check.h"
#include "attestation/log/event_cover.h"
#include "attestation/words/event_log_json.h"
#include "base/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::attestation;
  if (size > size_t{256} << 10) return 0;
  auto log = EventLog::parse(hf::fuzz_input(data, size));
  if (!log.ok()) return 0;
  (void)unproven_events(*log).size();
  (void)to_json(*log).ok();
  for (HashAlg alg : log->banks()) {
    PcrBank zero(alg);
    PcrBank bank = *replay(*log, alg);
    for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
      KnownPcr known{alg, pcr, bank.value(pcr)};
      HF_ASSERT(!find_difference(*log, {&known, 1}).has_value());
      known.value = zero.value(pcr);
      (void)find_difference(*log, {&known, 1}).has_value();
    }
  }
  return 0;
}
