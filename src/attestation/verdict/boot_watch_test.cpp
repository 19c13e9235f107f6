#include "attestation/verdict/boot_watch.h"

#include <gtest/gtest.h>

namespace hf::attestation {
namespace {

using Act = BootWatch::Act;
using namespace std::chrono_literals;

BootWatch::Time at(std::chrono::milliseconds since) { return BootWatch::Time{} + 1h + since; }
BootHead booting(std::string id) { return {.boot = std::move(id), .total = 10}; }
BootHead started(std::string id) {
  return {.boot = std::move(id), .total = 60, .handed_over = true, .handed_over_us = 1};
}

TEST(BootWatch, the_verdict_is_due_once_when_the_firmware_hands_over) {
  BootWatch watch(false);
  EXPECT_EQ(watch.take({}, at(0s)), Act::kNothing);
  EXPECT_EQ(watch.quiet_for(at(0s)), BootWatch::kQuietMax);
  EXPECT_EQ(watch.take(booting("a"), at(1s)), Act::kNothing);
  EXPECT_EQ(watch.quiet_for(at(2s)), BootWatch::kStuckAfter - 1s);
  EXPECT_EQ(watch.take(started("a"), at(8s)), Act::kAppraiseBoot);
  EXPECT_EQ(watch.take(started("a"), at(9s)), Act::kNothing);
  EXPECT_EQ(watch.quiet_for(at(9s)), BootWatch::kQuietMax);
}

TEST(BootWatch, a_reset_in_the_guest_is_another_boot) {
  BootWatch watch(false);
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kAppraiseBoot);
  EXPECT_EQ(watch.take(booting("b"), at(60s)), Act::kNothing);
  EXPECT_EQ(watch.quiet_for(at(60s)), BootWatch::kStuckAfter);
  EXPECT_EQ(watch.take(started("b"), at(67s)), Act::kAppraiseBoot);
}

// A keeper that comes back under a running guest has no TPM until the VM's reset.
TEST(BootWatch, a_tpm_that_is_off_is_asked_for_what_is_other_than_off) {
  BootWatch watch(false);
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kAppraiseBoot);
  watch.again(at(0s));
  EXPECT_EQ(watch.heard_boot(), "a");
  EXPECT_TRUE(watch.heard_hand_over());
  EXPECT_EQ(watch.take({}, at(1s)), Act::kNothing);
  EXPECT_EQ(watch.heard_boot(), "");
  EXPECT_FALSE(watch.heard_hand_over());
  EXPECT_EQ(watch.quiet_for(at(1s)), BootWatch::kQuietMax);
  EXPECT_EQ(watch.boot(), "a");
  EXPECT_EQ(watch.take(started("a"), at(2s)), Act::kAppraiseBoot);
}

TEST(BootWatch, enough_is_some_quick_tries_or_a_moment_of_slow_ones) {
  BootWatch quick(false);
  EXPECT_EQ(quick.take(started("a"), at(0s)), Act::kAppraiseBoot);
  for (int i = 0; i < BootWatch::kQuickTries; ++i) {
    EXPECT_FALSE(quick.waited_enough(at(1s))) << i;
    quick.again(at(1s));
  }
  EXPECT_TRUE(quick.waited_enough(at(1s)));
  BootWatch slow(false);
  EXPECT_EQ(slow.take(started("a"), at(0s)), Act::kAppraiseBoot);
  EXPECT_FALSE(slow.waited_enough(at(6s)));  // it was not tried a second time
  slow.again(at(6s));
  EXPECT_FALSE(slow.waited_enough(at(BootWatch::kMoment - 1ms)));
  EXPECT_TRUE(slow.waited_enough(at(BootWatch::kMoment)));
}

TEST(BootWatch, an_agent_is_asked_until_it_has_answered) {
  BootWatch watch(true);
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kAppraiseBoot);
  EXPECT_EQ(watch.take(started("a"), at(1s)), Act::kAskAgent);
  EXPECT_EQ(watch.take(started("a"), at(2s)), Act::kAskAgent);
  watch.agent_done();
  EXPECT_EQ(watch.take(started("a"), at(3s)), Act::kNothing);
  EXPECT_EQ(watch.take(started("b"), at(4s)), Act::kAppraiseBoot);
  EXPECT_EQ(watch.take(started("b"), at(5s)), Act::kAskAgent);
}

TEST(BootWatch, an_agent_is_not_looked_for_for_ever) {
  BootWatch watch(true);
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kAppraiseBoot);
  EXPECT_EQ(watch.take(started("a"), at(BootWatch::kAgentWithin + 1s)), Act::kNothing);
}

TEST(BootWatch, a_boot_that_does_not_come_is_told_once_and_may_still_come) {
  BootWatch watch(false);
  EXPECT_EQ(watch.take(booting("a"), at(0s)), Act::kNothing);
  EXPECT_EQ(watch.take(booting("a"), at(BootWatch::kStuckAfter)), Act::kAppraiseStuck);
  EXPECT_EQ(watch.take(booting("a"), at(BootWatch::kStuckAfter + 1s)), Act::kNothing);
  EXPECT_EQ(watch.take(started("a"), at(BootWatch::kStuckAfter + 2s)), Act::kAppraiseBoot);
}

TEST(BootWatch, a_boot_appraised_before_a_restart_of_the_daemon_is_not_appraised_again) {
  BootWatch watch(true);
  watch.adopt("a");
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kNothing);
  EXPECT_EQ(watch.take(started("a"), at(1s)), Act::kNothing);
  EXPECT_EQ(watch.take(started("b"), at(2s)), Act::kAppraiseBoot);
}

TEST(BootWatch, what_could_not_be_done_is_due_again) {
  BootWatch watch(false);
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kAppraiseBoot);
  watch.again(at(0s));
  EXPECT_EQ(watch.quiet_for(at(0s)), BootWatch::kPollBooting);
  EXPECT_EQ(watch.take(started("a"), at(1s)), Act::kAppraiseBoot);
  EXPECT_EQ(watch.take(started("a"), at(2s)), Act::kNothing);
}

TEST(BootWatch, a_verdict_is_never_given_up_while_its_boot_lasts_but_asked_for_ever_more_slowly) {
  BootWatch watch(false);
  std::chrono::seconds now = 0s;
  int asked = 0;
  for (; now < 3600s; now += 1s) {
    if (watch.take(started("a"), at(now)) != Act::kAppraiseBoot) continue;
    ++asked;
    watch.again(at(now));
  }
  EXPECT_GT(asked, 3600 / 60);
  EXPECT_LT(asked, 3600 / 60 + 15);
  EXPECT_GT(watch.quiet_for(at(now)), BootWatch::kPollRunning);
  EXPECT_LE(watch.quiet_for(at(now)), BootWatch::kAgainMax);
  // Another boot is not made to wait for what the one before lacked.
  EXPECT_EQ(watch.take(started("b"), at(now)), Act::kAppraiseBoot);
  EXPECT_FALSE(watch.waited_enough(at(now)));
}

TEST(BootWatch, an_agent_is_asked_while_the_verdict_waits_for_its_next_try) {
  BootWatch watch(true);
  EXPECT_EQ(watch.take(started("a"), at(0s)), Act::kAppraiseBoot);
  for (int i = 0; i < 10; ++i) watch.again(at(0s));
  EXPECT_EQ(watch.take(started("a"), at(1s)), Act::kAskAgent);
}

TEST(BootWatch, that_a_boot_does_not_come_is_told_again_if_it_could_not_be) {
  BootWatch watch(false);
  EXPECT_EQ(watch.take(booting("a"), at(0s)), Act::kNothing);
  EXPECT_EQ(watch.take(booting("a"), at(BootWatch::kStuckAfter)), Act::kAppraiseStuck);
  watch.again(at(BootWatch::kStuckAfter));
  EXPECT_EQ(watch.take(booting("a"), at(BootWatch::kStuckAfter + 1s)), Act::kAppraiseStuck);
  EXPECT_EQ(watch.take(booting("a"), at(BootWatch::kStuckAfter + 2s)), Act::kNothing);
  watch.again(at(BootWatch::kStuckAfter + 2s));
  EXPECT_EQ(watch.take(started("a"), at(BootWatch::kStuckAfter + 2s)), Act::kAppraiseBoot);
}

TEST(BootHead, reads_the_keepers_answer) {
  Result<BootHead> head = parse_boot_head(*sys::parse_json_object(
      R"({"ok":true,"boot":{"id":"00ff","started_us":5,"exit_boot_services":41,"exit_us":9,)"
      R"("complete":true},"total":60,"extends":[]})"));
  ASSERT_TRUE(head.ok()) << head.error().describe();
  EXPECT_EQ(head->boot, "00ff");
  EXPECT_TRUE(head->handed_over);
  EXPECT_EQ(head->handed_over_us, 9U);
  EXPECT_EQ(head->total, 60U);
  head = parse_boot_head(*sys::parse_json_object(
      R"({"boot":{"id":"01","started_us":5,"exit_boot_services":null,"exit_us":null},"total":3})"));
  ASSERT_TRUE(head.ok());
  EXPECT_FALSE(head->handed_over);
  EXPECT_TRUE(parse_boot_head(*sys::parse_json_object(R"({"boot":null,"total":0})"))->boot.empty());
  EXPECT_FALSE(parse_boot_head(*sys::parse_json_object(R"({"boot":{},"total":0})")).ok());
}

}  // namespace
}  // namespace hf::attestation
