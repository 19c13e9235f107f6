// What is shipped, which keeper returns under its guest, and how a doubt ends.
#include <gtest/gtest.h>

#include "title/testing/refusals.h"

namespace hf::title {
namespace {

using testing::ask_in_vain;
using testing::kA;
using testing::kB;
using testing::kC;
using testing::kStill;
using testing::leads_on;
using testing::line;
using testing::name_of;
using testing::own;
using testing::TestWorld;

TEST(Ship, goes_between_equal_heads_to_standbys_and_who_is_being_seeded) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_ship(kB, w.at(kA).chain.digest())), "not standby");
  w.ask(kA, kB);
  w.add(kA, *w.judge(kA).may_protect(kB));
  EXPECT_EQ(name_of(w.judge(kA).may_ship(kB, Digest{})), "peer other head");
  EXPECT_EQ(name_of(w.judge(kA).may_ship(kB, w.at(kA).chain.digest())), "allowed");
  EXPECT_EQ(name_of(w.judge(kA).may_switch_line(true, false)), "branch first");
  EXPECT_EQ(name_of(w.judge(kA).may_switch_line(true, true)), "allowed");
  EXPECT_EQ(name_of(w.judge(kA).may_switch_line(false, false)), "allowed");
}

TEST(Return, is_of_the_same_guest_under_the_same_tenure) {
  TestWorld w;
  w.protect(kB);
  const Digest started = w.at(kA).chain.digest();
  const Returning same{.same_guest = true, .started_under = started};
  EXPECT_TRUE(w.judge(kA).may_return(same).has_value());
  EXPECT_EQ(name_of(w.judge(kA).may_return({.started_under = started})), "other tenure");
  EXPECT_EQ(name_of(w.judge(kA).may_return({.same_guest = true})), "other tenure");
  // What changes neither holder nor line by decree ends no tenure.
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.add(
      kB, *[&] {
        w.share(kA, kB);
        return w.judge(kB).may_resign();
      }());
  w.share(kB, kA);
  EXPECT_TRUE(w.judge(kA).may_return(same).has_value());
  Word word = w.word(kA, Act::kRewind, WordKind::kWritesGivenUp, {}, line(3));
  w.add(kA, *w.judge(kA).may_rewind(line(3), own(5), kStill, true, &word));
  EXPECT_EQ(name_of(w.judge(kA).may_return(same)), "other tenure");
}

// Taking over a rival from a site that is lost stops nothing that runs here.
TEST(Return, a_holder_that_takes_over_a_rival_keeps_its_guest) {
  TestWorld w;
  w.protect(kB);
  const Returning same{.same_guest = true, .started_under = w.at(kA).chain.digest()};
  w.at(kA).asking.opened(w.at(kA).chain.digest());
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kB, kA);
  w.pass(10);
  ask_in_vain(w, kA, kB);
  const Word lost = w.word(kA, Act::kTakeOver, WordKind::kLostForGood, {kB});
  w.add(kA, *w.judge(kA).may_take_over(own(7), &lost));
  EXPECT_FALSE(w.at(kA).chain.has_rivals());
  EXPECT_EQ(name_of(w.judge(kA).may_return(same)), "allowed");
  EXPECT_TRUE(w.at(kA).asking.run_permitted(w.at(kA).chain.digest(), w.now));
}

// Nor does it when the other one gives up; who gave up has none to return to.
TEST(Return, the_one_to_which_the_other_gives_up_keeps_its_guest) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});
  const Returning same{.same_guest = true, .started_under = w.at(kB).chain.digest()};
  w.at(kB).asking.opened(w.at(kB).chain.digest());
  const Returning others{.same_guest = true, .started_under = w.at(kA).chain.digest()};
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kB, kA);
  w.share(kA, kB);
  ASSERT_TRUE(w.at(kB).chain.has_rivals());
  EXPECT_EQ(name_of(w.judge(kB).may_return(same)), "allowed");
  w.ask(kA, kB, 5);
  w.add(kA, *w.judge(kA).may_give_up(kStill));
  w.share(kA, kB);
  w.at(kB).asking.head_changed(w.at(kB).chain);
  ASSERT_TRUE(w.at(kB).chain.holder_is(kB) && !w.at(kB).chain.has_rivals());
  EXPECT_EQ(name_of(w.judge(kB).may_return(same)), "allowed");
  EXPECT_TRUE(w.at(kB).asking.run_permitted(w.at(kB).chain.digest(), w.now));
  EXPECT_EQ(name_of(w.judge(kA).may_return(others)), "not holder");
}

// ---- doubt ----

TEST(Doubt, ends_when_every_member_has_answered_and_what_they_know_is_known_here) {
  TestWorld w;
  w.protect(kB);
  const Chain yesterday = w.at(kA).chain;
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kA, kB);
  w.at(kA).chain = yesterday;
  w.at(kA).chain.doubt();  // its TPM's counter is ahead
  EXPECT_EQ(name_of(w.judge(kA).may_settle_doubt(nullptr)), "not answered");
  // The answer comes, and the statement that it names does not: a link that withholds.
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_settle_doubt(nullptr)), "peer other head");
  EXPECT_EQ(leads_on(w.judge(kA).may_settle_doubt(nullptr)), "learn");
  w.share(kB, kA);
  EXPECT_EQ(name_of(w.judge(kA).may_settle_doubt(nullptr)), "not answered");  // of the old head
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_settle_doubt(nullptr)), "allowed");
}

TEST(Doubt, ends_on_the_word_that_names_who_is_silent) {
  TestWorld w;
  w.protect(kB);
  w.at(kA).chain.doubt();
  const Word other = w.word(kA, Act::kSettleDoubt, WordKind::kLostForGood, {kC});
  EXPECT_EQ(name_of(w.judge(kA).may_settle_doubt(&other)), "word of other");
  const Word word = w.word(kA, Act::kSettleDoubt, WordKind::kLostForGood, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_settle_doubt(&word)), "allowed");
}

}  // namespace
}  // namespace hf::title
