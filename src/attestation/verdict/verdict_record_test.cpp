#include "attestation/verdict/verdict_record.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "attestation/testing/test_boot.h"

namespace hf::attestation {
namespace {

const Policy kLinux = *built_in_policy("linux");

VerdictFacts facts(uint64_t time, Trigger trigger, uint64_t epoch,
                   std::optional<uint64_t> handed_over, bool partial = false) {
  VerdictFacts of{.time = Micros(time),
                  .verdict = Verdict::kHealthy,
                  .trigger = trigger,
                  .boot = "a",
                  .partial = partial,
                  .epoch = Epoch(epoch)};
  if (handed_over) of.handed_over = Micros(*handed_over);
  return of;
}

VerdictRecord whole_record() {
  Baseline baseline = test_baseline(TestBoot{});
  TestBoot boot;
  boot.secure_boot = false;
  boot.kernel.content = "MZ kernel 44";
  TestEvidence evidence(boot);
  const AppraisalInput input = evidence.input(kLinux, &baseline);
  VerdictRecord record = record_of(appraise(input), input,
                                   {.time = Micros(77),
                                    .trigger = Trigger::kGuestLog,
                                    .boot = "0011223344556677",
                                    .partial = true,
                                    .handed_over = Micros(70),
                                    .after_hand_over_ms = -3,
                                    .site = "here"});
  record.token = "x.y.z";
  return record;
}

bool has(const VerdictRecord& record, std::string_view failure) {
  return std::ranges::find(record.of.failures, failure) != record.of.failures.end();
}

TEST(VerdictRecord, says_what_the_appraisal_found_and_what_it_rests_on) {
  const VerdictRecord record = whole_record();
  EXPECT_EQ(record.of.verdict, Verdict::kUnhealthy);
  EXPECT_TRUE(record.of.summary.starts_with("Unhealthy: ")) << record.of.summary;
  EXPECT_TRUE(has(record, "secure_boot_off"));
  EXPECT_TRUE(has(record, "program_changed"));
  EXPECT_TRUE(std::ranges::is_sorted(record.of.failures));
  EXPECT_EQ(record.secure_boot, false);
  EXPECT_TRUE(record.trust.contains("executables"));
  ASSERT_EQ(record.compared.size(), 6U);
  EXPECT_NE(record.compared[2].find("a quote of PCR"), std::string::npos);
  EXPECT_NE(record.compared[4].find("1 accepted boot"), std::string::npos);
}

TEST(VerdictRecord, comes_back_from_its_text_as_it_was) {
  const VerdictRecord record = whole_record();
  const std::string text = sys::to_text(to_json(record));
  Result<VerdictRecord> again = parse_verdict_record(text);
  ASSERT_TRUE(again.ok()) << again.error().describe();
  EXPECT_EQ(again->of, record.of);
  EXPECT_EQ(again->token, record.token);
  EXPECT_EQ(again->reasons.size(), record.reasons.size());
  EXPECT_EQ(sys::to_text(to_json(*again)), text);
}

// What a guest can make long, many or ugly never keeps the record from being read again.
TEST(VerdictRecord, is_read_again_whatever_a_guest_did) {
  Appraisal appraisal{.verdict = Verdict::kUnhealthy,
                      .kernel_command_line = std::string(300'000, 'k') + "\x01\n"};
  for (int i = 0; i < 257; ++i) {
    appraisal.reasons.push_back({.code = "program_changed",
                                 .words = std::string(600, 'w') + "\t\xc3\xa9",
                                 .event = 4'000'000'000U,
                                 .pcr = uint8_t{23},
                                 .nth = 4'000'000'000U,
                                 .extend = uint64_t{1} << 40});
  }
  appraisal.authorities.assign(3000, "db: " + std::string(300, 'a') + "\x7f");
  appraisal.planned_changes.assign(3000, "c");
  TestEvidence evidence{TestBoot{}};
  const VerdictRecord record =
      record_of(appraisal, evidence.input(kLinux, nullptr), {.time = Micros(1)});
  const std::string text = sys::to_text(to_json(record));
  EXPECT_LT(text.size(), size_t{1} << 20);
  Result<VerdictRecord> again = parse_verdict_record(text);
  ASSERT_TRUE(again.ok()) << again.error().describe();
  EXPECT_EQ(again->reasons.size(), 257U);
  EXPECT_EQ(again->of.failures, std::vector<std::string>{"program_changed"});
}

TEST(VerdictRecord, another_text_is_refused) {
  const std::string good = sys::to_text(to_json(whole_record()));
  ASSERT_TRUE(parse_verdict_record(good).ok());
  EXPECT_FALSE(parse_verdict_record("").ok());
  EXPECT_FALSE(parse_verdict_record("{}").ok());
  std::string word = good;
  word.replace(word.find("\"Unhealthy\""), 11, "\"Fine\"");
  EXPECT_FALSE(parse_verdict_record(word).ok());
  std::string unknown = good;
  unknown.insert(1, R"("more":1,)");
  EXPECT_FALSE(parse_verdict_record(unknown).ok());
}

TEST(VerdictOfABoot, is_one_given_after_the_hand_over_of_all_that_belongs_to_it) {
  EXPECT_TRUE(is_boots_verdict(facts(9, Trigger::kBoot, 1, 5)));
  EXPECT_TRUE(is_boots_verdict(facts(9, Trigger::kDemand, 1, 5)));
  EXPECT_FALSE(is_boots_verdict(facts(9, Trigger::kDemand, 1, {})));
  EXPECT_FALSE(is_boots_verdict(facts(9, Trigger::kStuck, 1, {})));
  EXPECT_FALSE(is_boots_verdict(facts(9, Trigger::kBoot, 1, 5, true)));
  VerdictFacts unread = facts(9, Trigger::kBoot, 1, 5);
  unread.boot.clear();
  EXPECT_FALSE(is_boots_verdict(unread));
}

TEST(VerdictOfABoot, answers_the_start_that_it_came_after_and_no_other) {
  auto answers = [](const VerdictFacts& verdict) {
    return answers_start(verdict, Micros(10), Epoch(2));
  };
  EXPECT_TRUE(answers(facts(20, Trigger::kBoot, 2, 15)));
  EXPECT_TRUE(answers(facts(80, Trigger::kStuck, 2, {})));
  EXPECT_FALSE(answers(facts(20, Trigger::kDemand, 2, {}))) << "before the hand-over";
  EXPECT_FALSE(answers(facts(20, Trigger::kBoot, 2, 9))) << "the boot before";
  EXPECT_FALSE(answers(facts(20, Trigger::kBoot, 1, 15)));
  EXPECT_FALSE(answers(facts(9, Trigger::kStuck, 2, {})));
  EXPECT_FALSE(answers(facts(20, Trigger::kBoot, 2, 15, true)));
}

TEST(VerdictOfABoot, who_waits_gets_the_boots_and_at_the_limit_what_there_is) {
  std::vector<VerdictFacts> newest_first{facts(30, Trigger::kDemand, 2, {}),
                                         facts(20, Trigger::kBoot, 2, 15),
                                         facts(9, Trigger::kBoot, 2, 8)};
  EXPECT_EQ(answer_to_start(newest_first, Micros(10), Epoch(2)), &newest_first[1]);
  EXPECT_EQ(answer_to_start(newest_first, Micros(20), Epoch(2)), nullptr);
  EXPECT_EQ(answer_at_limit(newest_first, Micros(20)), nullptr)
      << "a Healthy one of half a boot is not passed off as the boot's";
  newest_first[0].verdict = Verdict::kUnknown;
  EXPECT_EQ(answer_at_limit(newest_first, Micros(20)), newest_first.data());
  EXPECT_EQ(answer_at_limit(newest_first, Micros(30)), nullptr) << "of before";
  EXPECT_EQ(answer_at_limit({}, Micros(0)), nullptr);
}

TEST(VerdictOfABoot, is_past_once_another_boot_shows) {
  const VerdictFacts verdict = facts(20, Trigger::kBoot, 2, 15);
  EXPECT_FALSE(is_past(verdict, {.id = "a", .seen = Micros(30), .epoch = Epoch(3)}));
  EXPECT_TRUE(is_past(verdict, {.id = "b", .seen = Micros(30), .epoch = Epoch(2)}));
  EXPECT_TRUE(is_past(verdict, {.id = "", .seen = Micros(30), .epoch = Epoch(2)}))
      << "a start whose boot has not shown itself";
  EXPECT_FALSE(is_past(verdict, {.id = "", .seen = Micros(0), .epoch = Epoch(2)}));
  EXPECT_TRUE(is_past(verdict, {.id = "b", .seen = Micros(10), .epoch = Epoch(3)}))
      << "by another site's clock it looks newer";
}

TEST(History, tells_since_when_it_is_so) {
  std::vector<VerdictFacts> newest_first{
      facts(30, Trigger::kBoot, 1, 1), facts(20, Trigger::kBoot, 1, 1),
      facts(10, Trigger::kBoot, 1, 1), facts(5, Trigger::kBoot, 1, 1)};
  newest_first[2].verdict = Verdict::kUnknown;
  EXPECT_EQ(unchanged_since(newest_first), Micros(20));
}

TEST(Announcement, is_made_once_for_each_thing_that_is_wrong) {
  VerdictFacts healthy = facts(1, Trigger::kBoot, 1, 1);
  VerdictFacts wrong = healthy;
  wrong.verdict = Verdict::kUnhealthy;
  wrong.failures = {"db_changed", "program_changed"};
  wrong.summary = "Unhealthy: why";
  std::optional<Announcement> told = worth_telling(&healthy, wrong);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->alarm, Alarm::kAlert);
  EXPECT_EQ(told->kind, "attestation.unhealthy");
  EXPECT_EQ(told->text, "Unhealthy: why");
  EXPECT_FALSE(worth_telling(&wrong, wrong)) << "the same, seen twice";
  VerdictFacts fewer = wrong;
  fewer.failures = {"db_changed"};
  EXPECT_FALSE(worth_telling(&wrong, fewer));
  EXPECT_TRUE(worth_telling(&fewer, wrong)) << "one more";
  VerdictFacts next_boot = wrong;
  next_boot.boot = "b";
  EXPECT_TRUE(worth_telling(&wrong, next_boot));
  EXPECT_EQ(worth_telling(nullptr, healthy)->alarm, Alarm::kInfo);
  EXPECT_FALSE(worth_telling(&healthy, healthy));
  VerdictFacts unknown = healthy;
  unknown.verdict = Verdict::kUnknown;
  EXPECT_EQ(worth_telling(&healthy, unknown)->alarm, Alarm::kWarning);
  EXPECT_FALSE(worth_telling(&unknown, unknown));
}

}  // namespace
}  // namespace hf::attestation
