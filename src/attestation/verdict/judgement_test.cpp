#include "attestation/verdict/judgement.h"

#include <gtest/gtest.h>

#include "attestation/testing/test_boot.h"

namespace hf::attestation {
namespace {

const Policy kLinux = *built_in_policy("linux");
const std::string kBoot = "boot 1";

TEST(StuckFirmware, is_never_healthy_and_says_so_behind_what_is_wrong) {
  Appraisal healthy{.verdict = Verdict::kHealthy,
                    .reasons = {{.severity = Severity::kNote, .code = "note"}}};
  judge_stuck(healthy);
  EXPECT_EQ(healthy.verdict, Verdict::kUnknown);
  ASSERT_EQ(healthy.reasons.size(), 2U);
  EXPECT_EQ(healthy.reasons[0].code, "no_hand_over");
  EXPECT_FALSE(healthy.reasons[0].mend.empty());

  Appraisal wrong{.verdict = Verdict::kUnhealthy,
                  .reasons = {{.severity = Severity::kFailure, .code = "db_changed"},
                              {.severity = Severity::kUnknown, .code = "boot_not_finished"}}};
  judge_stuck(wrong);
  EXPECT_EQ(wrong.verdict, Verdict::kUnhealthy) << "what is wrong stays wrong";
  ASSERT_EQ(wrong.reasons.size(), 2U);
  EXPECT_EQ(wrong.reasons[0].code, "db_changed");
  EXPECT_EQ(wrong.reasons[1].code, "no_hand_over");
}

TEST(VaultAway, is_not_a_key_that_nobody_enrolled) {
  Appraisal appraisal{.reasons = {{.severity = Severity::kUnknown,
                                   .code = "key_not_enrolled",
                                   .words = "the key is not enrolled",
                                   .mend = "enrol it"},
                                  {.code = "db_changed", .words = "as it was"}}};
  say_vault_away(appraisal, {.code = ErrorCode::kTimeout, .cause = "no answer in 5 s"});
  EXPECT_EQ(appraisal.reasons[0].code, "vault_away");
  EXPECT_NE(appraisal.reasons[0].words.find("no answer in 5 s"), std::string::npos);
  EXPECT_EQ(appraisal.reasons[1].words, "as it was");
}

TEST(OlderState, is_what_either_counter_says) {
  EXPECT_FALSE(shows_older_state({.reasons = {{.code = "db_changed"}}}));
  EXPECT_TRUE(shows_older_state({.reasons = {{.code = "tpm_went_back"}}}));
  EXPECT_TRUE(shows_older_state({.reasons = {{.code = "state_rolled_back"}}}));
}

TEST(Learning, takes_a_first_boot_that_has_nothing_against_it) {
  TestEvidence good{TestBoot{}};
  const AppraisalInput input = good.input(kLinux, nullptr);
  EXPECT_EQ(learning_due(input, appraise(input), kBoot, {}), Learning::kFirst);
  const Baseline empty;
  EXPECT_EQ(learning_due(good.input(kLinux, &empty), {}, kBoot, {}), Learning::kFirst);

  TestBoot off;
  off.secure_boot = false;
  TestEvidence bad(off);
  const AppraisalInput bad_input = bad.input(kLinux, nullptr);
  EXPECT_EQ(learning_due(bad_input, appraise(bad_input), kBoot, {}), Learning::kNo);

  Policy without = kLinux;
  for (PcrPolicy& pcr : without.pcrs) pcr = {};
  ASSERT_FALSE(without.compares_with_baseline());
  EXPECT_EQ(learning_due(good.input(without, nullptr), {}, kBoot, {}), Learning::kNo);
}

TEST(Learning, comes_again_for_words_that_were_missing_and_for_nothing_else) {
  Baseline baseline = test_baseline_by_record(TestBoot{});
  baseline.boots.front().boot_id = kBoot;
  TestEvidence evidence{TestBoot{}};
  const AppraisalInput input = evidence.input(kLinux, &baseline);
  const Appraisal appraisal = appraise(input);
  ASSERT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  EXPECT_EQ(learning_due(input, appraisal, kBoot, {.boot = kBoot}), Learning::kAgain);
  EXPECT_EQ(learning_due(input, appraisal, kBoot, {.boot = kBoot, .log = true}), Learning::kAgain);
  EXPECT_EQ(learning_due(input, appraisal, kBoot, {.boot = kBoot, .log = true, .files = true}),
            Learning::kNo);
  EXPECT_EQ(learning_due(input, appraisal, kBoot, {}), Learning::kNo) << "learned long ago";
  EXPECT_EQ(learning_due(input, appraisal, "boot 2", {.boot = kBoot}), Learning::kNo);
  Appraisal unknown = appraisal;
  unknown.verdict = Verdict::kUnknown;
  EXPECT_EQ(learning_due(input, unknown, kBoot, {.boot = kBoot}), Learning::kNo);
  baseline.boots.push_back(baseline.boots.front());
  EXPECT_EQ(learning_due(input, appraisal, kBoot, {.boot = kBoot}), Learning::kNo)
      << "somebody has accepted another beside it";
}

TEST(Learning, does_not_overwrite_what_was_accepted_meanwhile) {
  const BaselineBoot boot{.boot_id = kBoot};
  Baseline none;
  ASSERT_TRUE(learn_boot(none, boot, Learning::kFirst, "web").ok());
  ASSERT_EQ(none.boots.size(), 1U);
  Status again = learn_boot(none, {.boot_id = "boot 2"}, Learning::kFirst, "web");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  EXPECT_EQ(again.error().mend, "holdfast attest check web");
  EXPECT_EQ(none.boots.front().boot_id, kBoot);
  EXPECT_TRUE(learn_boot(none, boot, Learning::kAgain, "web").ok());
  EXPECT_FALSE(learn_boot(none, {.boot_id = "boot 2"}, Learning::kAgain, "web").ok());
}

// A kernel's update, announced, boots: the baseline is of it from then on, and the announcement is
// used up.
TEST(PlannedChange, is_carried_out_by_the_boot_that_shows_it) {
  TestBoot updated;
  updated.kernel.content = "MZ kernel 44";
  TestEvidence evidence(updated);
  TestEvidence before{TestBoot{}};
  Baseline baseline = test_baseline(TestBoot{});
  PlannedChange change{.why = "kernel 44", .expires = Micros(uint64_t{1} << 50)};
  for (const BaselineEntry& was : baseline.boots.front().entries) {
    for (const BaselineEntry& is : test_baseline(updated).boots.front().entries) {
      const bool loaded =
          was.kind == MeasurementKind::kProgram || was.kind == MeasurementKind::kFile;
      if (loaded && was.what == is.what && was.pcr == is.pcr && was.digest != is.digest)
        change.digests.push_back(
            {.pcr = was.pcr, .was = was.digest, .is = is.digest, .what = was.what});
    }
  }
  ASSERT_EQ(change.digests.size(), 2U) << "as the program that ran, and as the file GRUB read";
  ASSERT_TRUE(announce(baseline, change, Micros(1)).ok());

  const AppraisalInput input = evidence.input(kLinux, &baseline);
  const Appraisal appraisal = appraise(input);
  ASSERT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  EXPECT_TRUE(carries_out_planned(appraisal));
  const MeasuredBoot boot = *MeasuredBoot::from(
      {.log = input.log, .record = input.record, .variables = input.variables}, HashAlg::kSha256);
  Baseline stored = baseline;
  Status carried = carry_out_planned(stored, boot, input, "boot 44");
  ASSERT_TRUE(carried.ok()) << carried.error().describe();
  EXPECT_TRUE(stored.planned.empty());
  EXPECT_EQ(stored.boots.front().boot_id, "boot 44");
  const Appraisal next = appraise(evidence.input(kLinux, &stored));
  EXPECT_EQ(next.verdict, Verdict::kHealthy) << told(next);
  EXPECT_FALSE(carries_out_planned(next));

  // Withdrawn while the boot was looked at: nothing is carried out.
  Baseline withdrawn = test_baseline(TestBoot{});
  EXPECT_FALSE(carry_out_planned(withdrawn, boot, input, "boot 44").ok());
  EXPECT_NE(withdrawn.boots.front().boot_id, "boot 44");
}

}  // namespace
}  // namespace hf::attestation
