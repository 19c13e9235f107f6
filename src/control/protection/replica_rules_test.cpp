#include "control/protection/replica_rules.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

template <typename Id>
Id id(uint8_t n) {
  Id made;
  made.bytes.fill(std::byte{n});
  return made;
}

const Result<VmRow> kNoRow = Error{.code = ErrorCode::kNotFound};
const Result<ProtectionRow> kNoProtection = Error{.code = ErrorCode::kNotFound};

Asked offer() {
  return {.vm = id<VmId>(1),
          .name = "web",
          .epoch = Epoch(3),
          .journal_public_key = "aa",
          .from = id<SiteId>(2),
          .from_name = "north",
          .here = "south"};
}

PeerRow north() { return {.site = id<SiteId>(2), .name = "north"}; }

VmRow replica() {
  return {.id = id<VmId>(1), .name = "web", .epoch = Epoch(3), .role = VmRole::kStandby};
}

ProtectionRow incoming() {
  return {.vm = id<VmId>(1),
          .peer = id<SiteId>(2),
          .direction = Direction::kIn,
          .journal_public_key = "aa"};
}

TEST(ReplicaRules, an_offer_that_was_taken_before_is_the_same) {
  EXPECT_EQ(*judge_offer(offer(), kNoRow, kNoProtection), OfferIs::kNew);
  EXPECT_EQ(*judge_offer(offer(), replica(), incoming()), OfferIs::kSame);
  Asked later = offer();
  later.epoch = Epoch(4);
  EXPECT_EQ(*judge_offer(later, replica(), incoming()), OfferIs::kSameLater);
  Asked renamed = offer();
  renamed.name = "shop";
  EXPECT_EQ(*judge_offer(renamed, replica(), incoming()), OfferIs::kSame) << "ids decide";
}

TEST(ReplicaRules, an_offer_of_another_key_site_or_time_is_not_the_same) {
  Asked other_key = offer();
  other_key.journal_public_key = "bb";
  EXPECT_EQ(judge_offer(other_key, replica(), incoming()).error().code, ErrorCode::kWrongKey);
  Asked other_site = offer();
  other_site.from = id<SiteId>(7);
  const Error refused = judge_offer(other_site, replica(), incoming()).error();
  EXPECT_EQ(refused.code, ErrorCode::kConflict);
  EXPECT_EQ(refused.cause.find("web"), std::string::npos) << "a stranger learns no names";
  Asked late = offer();
  late.epoch = Epoch(2);
  EXPECT_EQ(judge_offer(late, replica(), incoming()).error().code, ErrorCode::kConflict);
}

TEST(ReplicaRules, an_offer_of_a_vm_that_was_taken_over_is_refused) {
  VmRow taken = replica();
  taken.role = VmRole::kActive;
  taken.epoch = Epoch(4);
  taken.taken_from = id<SiteId>(2);
  const Error refused = judge_offer(offer(), taken, kNoProtection).error();
  EXPECT_EQ(refused.code, ErrorCode::kConflict);
  EXPECT_NE(refused.cause.find("site south has taken"), std::string::npos) << refused.cause;
  ProtectionRow back = incoming();
  back.direction = Direction::kOut;
  EXPECT_FALSE(judge_offer(offer(), taken, back).ok())
      << "and protected back to where it came from";
  VmRow left = replica();
  left.role = VmRole::kSuperseded;
  EXPECT_NE(judge_offer(offer(), left, back).error().mend.find("at site south: holdfast vm delete"),
            std::string::npos);
}

TEST(ReplicaRules, an_offer_is_not_judged_by_a_catalog_that_cannot_be_read) {
  const Result<VmRow> broken = Error{.code = ErrorCode::kIo};
  EXPECT_EQ(judge_offer(offer(), broken, kNoProtection).error().code, ErrorCode::kIo);
  EXPECT_EQ(judge_withdrawal(id<VmId>(1), north(), "south", broken, kNoProtection).error().code,
            ErrorCode::kIo);
}

TEST(ReplicaRules, a_withdrawal_is_due_once_and_the_answer_stays) {
  const VmId vm = id<VmId>(1);
  EXPECT_EQ(*judge_withdrawal(vm, north(), "south", replica(), incoming()), WithdrawalIs::kDue);
  EXPECT_EQ(*judge_withdrawal(vm, north(), "south", kNoRow, kNoProtection), WithdrawalIs::kDone);
}

TEST(ReplicaRules, a_withdrawal_touches_nobody_elses_and_nothing_that_was_taken_over) {
  const VmId vm = id<VmId>(1);
  PeerRow stranger = north();
  stranger.site = id<SiteId>(7);
  EXPECT_EQ(*judge_withdrawal(vm, stranger, "south", replica(), incoming()), WithdrawalIs::kDone)
      << "no replica of its own is here; no more is said";
  VmRow taken = replica();
  taken.role = VmRole::kActive;
  taken.taken_from = north().site;
  EXPECT_EQ(judge_withdrawal(vm, north(), "south", taken, incoming()).error().code,
            ErrorCode::kConflict);
  EXPECT_EQ(judge_withdrawal(vm, north(), "south", taken, kNoProtection).error().code,
            ErrorCode::kConflict);
  ProtectionRow out = incoming();
  out.direction = Direction::kOut;
  VmRow own = replica();
  own.role = VmRole::kActive;
  EXPECT_FALSE(judge_withdrawal(vm, north(), "south", own, out).ok());
}

}  // namespace
}  // namespace hf::control
