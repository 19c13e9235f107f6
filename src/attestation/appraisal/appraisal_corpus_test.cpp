// Verdicts over real boots of one guest: honest changes around it raise no alarm, and each change
// of its boot chain is told with its reason. By the event log alone, and by the extends alone.
#include <gtest/gtest.h>

#include <algorithm>

#include "attestation/appraisal/appraisal.h"
#include "attestation/testing/corpus.h"

namespace hf::attestation {
namespace {

constexpr Micros kNow{1'800'000'000'000'000};

// A boot as its log tells it, and as a keeper's record would: the same extends, without the data.
struct Seen {
  std::string name;
  EventLog log;
  ExtendRecord record;
};

ExtendRecord record_of(const EventLog& log) {
  ExtendRecord record;
  record.boot_id = "0123456789abcdef";
  record.complete = true;
  for (const Event& event : log.events()) {
    if (!event.measured()) continue;
    Extend extend;
    extend.n = record.extends.size();
    extend.pcr = static_cast<uint8_t>(event.pcr);
    const ByteSpan digest = event.digest(HashAlg::kSha256);
    extend.digests.push_back({HashAlg::kSha256, Bytes(digest.begin(), digest.end())});
    if (is_exit_boot_services(extend.pcr, extend.digests)) {
      record.exit_boot_services = extend.n;
      record.exited = kNow;
    }
    record.extends.push_back(std::move(extend));
  }
  record.total = record.extends.size();
  return record;
}

Seen seen(const std::string& name) {
  auto log = EventLog::parse(corpus::boot("holdfast-" + name).log);
  HF_ASSERT(log.ok());
  ExtendRecord record = record_of(*log);
  return {name, std::move(log).value(), std::move(record)};
}

enum class By : uint8_t { kRecordAndLog, kRecord };

class Appraised {
 public:
  explicit Appraised(By by) : by_(by), policy_(built_in_policy("linux").value()) {
    const Seen first = seen("shim-grub");
    auto boot = learn(measured(first), {}, "first", kNow);
    HF_ASSERT(boot.ok());
    accept(baseline_, std::move(boot).value(), AcceptMode::kReplace);
  }

  Appraisal operator()(const Seen& boot) const {
    AppraisalInput input;
    if (by_ == By::kRecordAndLog) input.log = &boot.log;
    input.record = &boot.record;
    input.policy = &policy_;
    input.baseline = &baseline_;
    input.context.now = kNow;
    return appraise(input);
  }

 private:
  // Learned with both: what the verdict is then given by is less.
  static MeasuredBoot measured(const Seen& boot) {
    auto measured =
        MeasuredBoot::from({.log = &boot.log, .record = &boot.record}, HashAlg::kSha256);
    HF_ASSERT(measured.ok());
    return std::move(measured).value();
  }

  By by_;
  Policy policy_;
  Baseline baseline_;
};

std::string told(const Appraisal& appraisal) {
  std::string text(name_of(appraisal.verdict));
  for (const Reason& reason : appraisal.reasons)
    text +=
        "\n  " + std::string(name_of(reason.severity)) + " " + reason.code + ": " + reason.words;
  return text;
}

bool fails_with(const Appraisal& appraisal, std::string_view code) {
  return std::ranges::any_of(appraisal.reasons, [&](const Reason& reason) {
    return reason.severity == Severity::kFailure && reason.code == code;
  });
}

class OfCorpus : public testing::TestWithParam<By> {};
INSTANTIATE_TEST_SUITE_P(Appraisal, OfCorpus, testing::Values(By::kRecordAndLog, By::kRecord),
                         [](const auto& info) {
                           return info.param == By::kRecordAndLog ? "by_record_and_log"
                                                                  : "by_record";
                         });

TEST_P(OfCorpus, what_does_not_touch_the_boot_chain_raises_no_alarm) {
  const Appraised appraised(GetParam());
  for (const char* name : {"shim-grub", "second-boot", "nic-added", "disk-grown", "boot-order",
                           "shim-grub-tis", "two-banks", "vtpm"}) {
    const Appraisal appraisal = appraised(seen(name));
    EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << name << ": " << told(appraisal);
  }
}

TEST_P(OfCorpus, each_change_of_the_boot_chain_is_told) {
  const Appraised appraised(GetParam());
  struct Case {
    const char* name;
    std::vector<const char*> codes;
  };
  for (const Case& expected : std::vector<Case>{
           {"other-kernel", {"program_changed"}},
           {"other-cmdline", {"command_line_changed"}},
           {"other-grub", {"program_changed"}},
           {"secure-boot-off", {"secure_boot_off"}},
           {"db-key", {"db_changed", "authority_changed"}},
           {"mok", {"mok_changed", "authority_changed"}},
           {"own-keys-shim", {"pk_changed", "kek_changed", "db_changed", "authority_changed"}},
           {"uki", {"db_changed"}},
           {"net-and-scsi", {"program_added"}},  // the card brings an option ROM: code
       }) {
    const Appraisal appraisal = appraised(seen(expected.name));
    EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy) << expected.name << ": " << told(appraisal);
    for (const char* code : expected.codes)
      EXPECT_TRUE(fails_with(appraisal, code))
          << expected.name << " without " << code << ": " << told(appraisal);
  }
}

}  // namespace
}  // namespace hf::attestation
