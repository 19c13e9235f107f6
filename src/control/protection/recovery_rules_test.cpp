#include "control/protection/recovery_rules.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

SiteId site(uint8_t n) {
  SiteId id;
  id.bytes.fill(std::byte{n});
  return id;
}

TEST(RecoveryRules, only_the_other_end_of_a_protection_may_raise_an_epoch) {
  Result<ProtectionRow> protection = ProtectionRow{.peer = site(2)};
  EXPECT_TRUE(is_counterpart(protection, site(2)));
  EXPECT_FALSE(is_counterpart(protection, site(3))) << "paired, but not for this VM";
  Result<ProtectionRow> none = Error{.code = ErrorCode::kNotFound};
  EXPECT_FALSE(is_counterpart(none, site(2)));
}

TEST(RecoveryRules, only_the_counterpart_and_where_the_vm_came_from_may_ask_about_it) {
  Result<ProtectionRow> protection = ProtectionRow{.peer = site(2)};
  Result<ProtectionRow> none = Error{.code = ErrorCode::kNotFound};
  VmRow row;
  EXPECT_TRUE(may_ask(row, protection, site(2)));
  EXPECT_FALSE(may_ask(row, protection, site(3))) << "paired, but not for this VM";
  EXPECT_FALSE(may_ask(row, none, site(2)));
  row.taken_from = site(2);
  EXPECT_TRUE(may_ask(row, none, site(2))) << "it has to learn that it was superseded";
  EXPECT_FALSE(may_ask(row, none, site(3)));
  EXPECT_FALSE(is_counterpart(none, site(2))) << "and teaches nothing";
}

TEST(RecoveryRules, a_paired_site_vouches_for_the_vms_it_has_to_do_with_only) {
  Result<ProtectionRow> protection = ProtectionRow{.peer = site(2)};
  VmRow row;
  EXPECT_TRUE(may_vouch(row, protection, {}, site(2)));
  EXPECT_FALSE(may_vouch(row, protection, {}, site(3)));
  EXPECT_TRUE(may_vouch(row, protection, site(3), site(3))) << "where its key was enrolled";
}

TEST(RecoveryRules, a_start_sees_that_the_vm_was_taken_over_meanwhile) {
  const VmRow started{.epoch = Epoch(3), .role = VmRole::kActive};
  EXPECT_TRUE(still_ours(started, started).ok());
  VmRow superseded = started;
  superseded.role = VmRole::kSuperseded;
  superseded.epoch = Epoch(4);
  EXPECT_EQ(still_ours(started, superseded).error().code, ErrorCode::kConflict);
  VmRow again = started;
  again.epoch = Epoch(4);
  EXPECT_FALSE(still_ours(started, again).ok());
  VmRow standby = started;
  standby.role = VmRole::kStandby;
  EXPECT_FALSE(still_ours(standby, standby).ok());
}

}  // namespace
}  // namespace hf::control
