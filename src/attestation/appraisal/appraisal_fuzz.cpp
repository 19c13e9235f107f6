// A verdict over any log and a record of it ends, whatever the guest measured; and a log that is
// nobody's is never a healthy boot.
#include "attestation/appraisal/appraisal.h"
#include "base/fuzz_input.h"

namespace {

using namespace hf;
using namespace hf::attestation;

ExtendRecord record_of(const EventLog& log) {
  ExtendRecord record{.boot_id = "0000000000000001"};
  for (const Event& event : log.events()) {
    if (!event.measured() || event.pcr >= kPcrCount) continue;
    Extend extend{.n = record.extends.size(), .pcr = static_cast<uint8_t>(event.pcr)};
    for (const DigestView& digest : event.digests()) {
      if (size_of(digest.alg) != digest.bytes.size()) continue;
      extend.digests.push_back(
          {.alg = digest.alg, .bytes = {digest.bytes.begin(), digest.bytes.end()}});
    }
    record.extends.push_back(std::move(extend));
  }
  record.total = record.extends.size();
  return record;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Policy policy = *built_in_policy("linux");
  auto log = EventLog::parse(hf::fuzz_input(data, size));
  if (!log.ok()) return 0;
  ExtendRecord record = record_of(*log);
  AppraisalInput input{.log = &*log, .record = &record, .policy = &policy};
  HF_ASSERT(appraise(input).verdict != Verdict::kHealthy);  // there is no baseline
  auto boot = MeasuredBoot::from({.log = &*log, .record = &record}, HashAlg::kSha256);
  if (!boot.ok()) return 0;
  auto learned = learn(*boot, {}, "", Micros(1));
  if (!learned.ok()) return 0;
  Baseline baseline{.boots = {*learned}};
  for (const Difference& difference : compare(*learned, *boot, policy, {})) {
    (void)difference;
    HF_ASSERT(false);  // a boot does not differ from itself
  }
  input.baseline = &baseline;
  (void)appraise(input);
  input.record = nullptr;
  HF_ASSERT(appraise(input).verdict != Verdict::kHealthy);  // nothing vouches for the log
  return 0;
}
