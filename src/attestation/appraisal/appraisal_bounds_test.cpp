// What evidence may cost whoever judges it: a megabyte of log is not gigabytes of memory or hours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "attestation/appraisal/appraisal.h"
#include "attestation/testing/test_boot.h"
#include "attestation/words/database_change.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

using secure_boot::SignatureDatabase;

const Policy kLinux = *built_in_policy("linux");
constexpr std::chrono::seconds kPatience{10};

Bytes revocations(uint32_t from, uint32_t to) {
  std::vector<Digest> digests(to - from);
  for (uint32_t i = from; i < to; ++i) store_le(digests[i - from].bytes.data(), i);
  return SignatureDatabase::of_sha256(secure_boot::guids::kMicrosoft, digests).to_bytes();
}

// Each of them is searched in the other: a product of the sizes would take minutes.
TEST(AppraisalBounds, large_databases_are_compared_in_one_pass) {
  const Bytes was = revocations(0, 20'000);
  const Bytes is = revocations(10'000, 30'000);
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    DatabaseChange change = database_change(was, is);
    ASSERT_EQ(change.added_count, 10'000u);
    ASSERT_EQ(change.removed_count, 10'000u);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, kPatience);
}

TEST(AppraisalBounds, a_variable_that_is_measured_often_is_held_once) {
  TestBoot boot;
  TestEvidence evidence(boot);
  auto db =
      std::ranges::find_if(evidence.record.extends, [](const Extend& e) { return e.pcr == 7; });
  std::vector<Extend> more(2000, *(db + 3));
  evidence.record.extends.insert(db + 4, more.begin(), more.end());
  for (size_t n = 0; n < evidence.record.extends.size(); ++n) evidence.record.extends[n].n = n;
  evidence.record.total = evidence.record.extends.size();
  auto measured = MeasuredBoot::from({.record = &evidence.record, .variables = &evidence.variables},
                                     HashAlg::kSha256);
  ASSERT_TRUE(measured.ok());
  size_t recognised = 0;
  std::set<const std::byte*> held;
  for (const Measurement& m : measured->measurements()) {
    if (m.name != "db" || m.kind != MeasurementKind::kKeyVariable) continue;
    ++recognised;
    held.insert(m.covered.data());
  }
  EXPECT_GT(recognised, 2000u);
  EXPECT_EQ(held.size(), 1u);
}

TEST(AppraisalBounds, a_setting_is_told_once_however_often_it_is_measured) {
  Bytes items;
  for (int i = 0; i < 100'000; ++i) {
    std::array<std::byte, 9> item{};
    store_le<uint32_t>(item.data(), 0x00050003);  // test signing
    store_le<uint32_t>(item.data() + 4, 1);
    item[8] = std::byte{1};
    items.insert(items.end(), item.begin(), item.end());
  }
  LogWriter log({HashAlg::kSha256});
  log.windows_tag(12, 0x40010001, items);
  auto parsed = EventLog::parse(log.bytes());
  ASSERT_TRUE(parsed.ok());
  auto measured = MeasuredBoot::from({.log = &*parsed}, HashAlg::kSha256);
  BootFacts facts = read_facts(*measured);
  EXPECT_THAT(facts.debug_settings, testing::ElementsAre("Windows test signing"));
}

TEST(AppraisalBounds, reasons_are_counted_where_they_are_too_many) {
  TestBoot boot;
  TestEvidence evidence(boot);
  Policy policy = kLinux;
  policy.baseline = Need::kOptional;
  policy.refused_signers = {{.subject = "Debian*"}};
  auto authority = std::ranges::find_if(evidence.log->events(), [](const Event& event) {
    return event.pcr == 7 && event.type == EventType::kEfiVariableAuthority &&
           as_text(event.data).find("Debian") != std::string_view::npos;
  });
  ASSERT_NE(authority, evidence.log->events().end());
  auto from = evidence.log_bytes.begin() + static_cast<ptrdiff_t>(authority->byte_offset);
  auto to = evidence.log_bytes.begin() + static_cast<ptrdiff_t>((authority + 1)->byte_offset);
  Bytes repeated;
  for (int i = 0; i < 600; ++i) repeated.insert(repeated.end(), from, to);
  evidence.log_bytes.insert(to, repeated.begin(), repeated.end());
  evidence.parse_log();
  auto bank = replay(*evidence.log, HashAlg::kSha256);
  evidence.quote.banks[0].values[7] = Bytes(bank->value(7).begin(), bank->value(7).end());
  Appraisal appraisal = appraise(evidence.by_log(policy, nullptr));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy);
  EXPECT_EQ(std::ranges::count(appraisal.reasons, Severity::kFailure, &Reason::severity), 256);
  EXPECT_EQ(appraisal.reasons.back().code, "more_reasons");
  EXPECT_THAT(appraisal.reasons.back().words, testing::HasSubstr("345 more"));
}

}  // namespace
}  // namespace hf::attestation
