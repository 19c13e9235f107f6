#include "attestation/rollover/rollover.h"

#include <gtest/gtest.h>

#include "crypto/crypto.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

const std::string kVm = "web";

// A database with one digest.
Bytes filled(uint8_t with) {
  Digest digest;
  digest.bytes.fill(std::byte{with});
  return secure_boot::SignatureDatabase::of_sha256({}, {digest}).to_bytes();
}

KeyPlan dbx_plan() {
  KeyPlan plan{.pcr7_now = "aa", .pcr7_then = "bb"};
  plan.before.db = filled(1);
  plan.before.dbx = filled(2);
  plan.after = plan.before;
  plan.after.dbx = filled(3);
  plan.change = {.id = "c1", .why = "roll-over"};
  plan.way_back = {.id = "c2", .why = "back"};
  plan.back = secure_boot::changes_between(plan.after, plan.before);
  return plan;
}

RolloverRecord resealed_record() {
  RolloverRecord record = record_of(dbx_plan(), false);
  record.resealed = true;
  return record;
}

TEST(RolloverRecord, is_of_the_plan_and_survives_json) {
  RolloverRecord record = record_of(dbx_plan(), true);
  EXPECT_EQ(record.pcr7_before, "aa");
  EXPECT_EQ(record.pcr7_after, "bb");
  EXPECT_TRUE(record.in_guest);
  EXPECT_FALSE(record.opens_under_both());
  ASSERT_EQ(record.back.size(), 1U);
  EXPECT_EQ(record.back.front().variable, "dbx");
  EXPECT_EQ(record.back.front().data, filled(2));
  EXPECT_EQ(record.made.at("dbx"), crypto::sha256(filled(3)).hex());
  record.resealed = true;
  Result<RolloverRecord> again = parse_rollover_record(sys::to_text(to_json(record)));
  ASSERT_TRUE(again.ok()) << again.error().describe();
  EXPECT_EQ(*again, record);
  EXPECT_FALSE(parse_rollover_record("{}").ok());
}

TEST(Keys, are_told_as_they_were_as_planned_or_otherwise) {
  const KeyPlan plan = dbx_plan();
  KeyVariables now = key_variables(plan.before);
  EXPECT_EQ(keys_now(now, plan), KeysNow::kAsBefore);
  now["SbatLevel"] = filled(9);  // shim's own; no roll-over changes it
  EXPECT_EQ(keys_now(now, plan), KeysNow::kAsBefore);
  now["dbx"] = filled(3);
  EXPECT_EQ(keys_now(now, plan), KeysNow::kAsPlanned);
  now["dbx"] = filled(4);
  EXPECT_EQ(keys_now(now, plan), KeysNow::kOther);
  now.erase("dbx");
  EXPECT_EQ(keys_now(now, plan), KeysNow::kOther);
}

TEST(Rollover, by_a_guess_wants_the_operators_word) {
  KeyPlan plan = dbx_plan();
  EXPECT_TRUE(may_roll(plan, false, kVm).ok());
  plan.certain = false;
  EXPECT_EQ(may_roll(plan, false, kVm).error().code, ErrorCode::kConflict);
  EXPECT_TRUE(may_roll(plan, true, kVm).ok());
}

TEST(Rollover, that_broke_off_is_resumed_while_the_guest_opens_under_both) {
  const Error done{.code = ErrorCode::kExists};
  RolloverRecord record = resealed_record();
  EXPECT_TRUE(resumes(done, record));
  EXPECT_FALSE(resumes(done, std::nullopt));
  EXPECT_FALSE(resumes({.code = ErrorCode::kConflict}, record));
  record.confirmed = true;
  EXPECT_FALSE(resumes(done, record));
}

TEST(Rollover, ends_only_under_the_value_that_was_predicted) {
  RolloverRecord record = resealed_record();
  EXPECT_TRUE(may_finish(record, "bb", kVm).ok());
  const Status old = may_finish(record, "aa", kVm);
  ASSERT_FALSE(old.ok());
  EXPECT_NE(old.error().mend.find("restart the guest"), std::string::npos);
  const Status strange = may_finish(record, "cc", kVm);
  ASSERT_FALSE(strange.ok());
  EXPECT_NE(strange.error().mend.find("baseline diff"), std::string::npos);
  record.confirmed = true;
  EXPECT_FALSE(may_finish(record, "bb", kVm).ok());
}

TEST(Rollover, in_the_guest_ends_by_the_restarts_healthy_verdict) {
  RolloverRecord record = resealed_record();
  VerdictFacts healthy{.verdict = Verdict::kHealthy};
  EXPECT_FALSE(ends_rollover(record, healthy, "bb")) << "it waits for nothing";
  record.in_guest = true;
  EXPECT_TRUE(ends_rollover(record, healthy, "bb"));
  EXPECT_FALSE(ends_rollover(record, healthy, "aa")) << "not restarted yet";
  EXPECT_FALSE(ends_rollover(record, {.verdict = Verdict::kUnknown}, "bb"));
  EXPECT_TRUE(judge_rolled(healthy, kVm).ok());
  const Status bad =
      judge_rolled({.verdict = Verdict::kUnhealthy, .summary = "Unhealthy: why"}, kVm);
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().cause.find("Unhealthy: why"), std::string::npos);
  EXPECT_EQ(bad.error().mend, "holdfast secure-boot rollover web --back");
  EXPECT_FALSE(judge_rolled_back({.verdict = Verdict::kUnknown}, kVm).ok());
}

TEST(WayBack, takes_nothing_away_that_came_by_another_hand) {
  const KeyPlan plan = dbx_plan();
  const RolloverRecord record = resealed_record();
  KeyVariables now = key_variables(plan.after);
  EXPECT_TRUE(may_go_back(record, now, kVm, "saved").ok());
  EXPECT_TRUE(may_go_back(record, key_variables(plan.before), kVm, "saved").ok()) << "back already";
  now["dbx"] = filled(8);
  const Status refused = may_go_back(record, now, kVm, "saved");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_NE(refused.error().mend.find("restore web saved"), std::string::npos);
}

TEST(WayBack, of_a_stopped_vm_needs_a_guest_that_opens_either_way) {
  RolloverRecord record = resealed_record();
  Result<WayBack> way = plan_way_back(record, {}, kVm);
  ASSERT_TRUE(way.ok());
  EXPECT_EQ(way->change, record.way_back);
  EXPECT_FALSE(way->reseal_for);
  record.confirmed = true;
  way = plan_way_back(record, {}, kVm);
  ASSERT_FALSE(way.ok());
  EXPECT_NE(way.error().cause.find("does not run"), std::string::npos);
  EXPECT_TRUE(plan_way_back(record, {.without_reseal = true}, kVm).ok());
}

TEST(WayBack, of_a_running_vm_is_predicted_and_resealed_for_where_needed) {
  RolloverRecord record = resealed_record();
  KeyPlan back = dbx_plan();
  back.pcr7_then = "aa";
  Result<WayBack> way = plan_way_back(record, {.running = true, .plan = back}, kVm);
  ASSERT_TRUE(way.ok());
  EXPECT_TRUE(way->predicted);
  EXPECT_EQ(way->change.id, "c1");
  EXPECT_FALSE(way->reseal_for) << "it opens under the value from before";

  back.pcr7_then = "dd";  // shim's state has changed since
  way = plan_way_back(record, {.running = true, .plan = back}, kVm);
  ASSERT_TRUE(way.ok());
  EXPECT_EQ(way->reseal_for, "dd");
  RolloverRecord resealed = record;
  take_resealed_back(resealed, "dd");
  EXPECT_TRUE(resealed.opens_under_both());
  EXPECT_EQ(resealed.pcr7_before, "dd");

  record.confirmed = true;
  back.pcr7_then = "aa";
  way = plan_way_back(record, {.running = true, .plan = back}, kVm);
  EXPECT_EQ(way->reseal_for, "aa") << "the guest gave the old value up";
  back.certain = false;
  EXPECT_FALSE(plan_way_back(record, {.running = true, .plan = back}, kVm).ok());
  way = plan_way_back(record, {.running = true, .without_reseal = true, .plan = back}, kVm);
  ASSERT_TRUE(way.ok());
  EXPECT_FALSE(way->reseal_for);
}

TEST(WayBack, of_a_vm_that_does_not_come_up_asks_nobody) {
  RolloverRecord record = resealed_record();
  KeyPlan stuck = dbx_plan();
  stuck.handed_over = false;
  Result<WayBack> way = plan_way_back(record, {.running = true, .plan = stuck}, kVm);
  ASSERT_TRUE(way.ok());
  EXPECT_TRUE(way->force_off);
  EXPECT_FALSE(way->predicted);
  const Error away{.code = ErrorCode::kUnavailable, .cause = "the keeper is away"};
  EXPECT_TRUE(plan_way_back(record, {.running = true, .plan = away}, kVm).ok());
  record.confirmed = true;
  way = plan_way_back(record, {.running = true, .plan = stuck}, kVm);
  ASSERT_FALSE(way.ok());
  EXPECT_NE(way.error().mend.find("--without-reseal"), std::string::npos);
  way = plan_way_back(record, {.running = true, .plan = away}, kVm);
  EXPECT_EQ(way.error().code, ErrorCode::kUnavailable);
  // The keys are back already: whoever asks has to know, even where the guest opens either way.
  const Error same{.code = ErrorCode::kExists};
  EXPECT_EQ(plan_way_back(resealed_record(), {.running = true, .plan = same}, kVm).error().code,
            ErrorCode::kExists);
}

}  // namespace
}  // namespace hf::attestation
