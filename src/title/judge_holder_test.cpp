// The statement table's changes of holder: hand-over, take, go on, and what settles a conflict.
#include <gtest/gtest.h>

#include "title/testing/refusals.h"

namespace hf::title {
namespace {

using testing::ask_in_vain;
using testing::kA;
using testing::kB;
using testing::kC;
using testing::KeyedSigner;
using testing::kStill;
using testing::leads_on;
using testing::line;
using testing::make_rivals;
using testing::name_of;
using testing::own;
using testing::TestWorld;

// ---- hand-over ----

struct HandOver : ::testing::Test {
  HandOver() {
    w.protect(kB);
    w.at(kA).asking.opened(w.at(kA).chain.digest());
    w.at(kA).asking.giving(w.at(kA).chain.digest(), 30 * kSecond, w.now);
  }
  std::string by_a(const Stillness& still = kStill, const Word* word = nullptr,
                   const OwnLine& has = own(5)) {
    return name_of(w.judge(kA).may_hand_over(kB, has, still, word));
  }
  TestWorld w;
};

TEST_F(HandOver, goes_to_a_standby_that_is_prepared_and_whole_under_this_head) {
  EXPECT_EQ(name_of(w.judge(kA).may_hand_over(kA, own(5), kStill, nullptr)), "is holder");
  EXPECT_EQ(name_of(w.judge(kA).may_hand_over(kC, own(5), kStill, nullptr)), "not standby");
  ask_in_vain(w, kA, kB);
  EXPECT_EQ(by_a(), "not asked");
  w.ask(kA, kB, 5, true, false);
  EXPECT_EQ(by_a(), "not prepared");
  w.ask(kA, kB, 0);
  EXPECT_EQ(by_a(), "peer not whole");
  w.ask(kA, kB, 9);
  EXPECT_EQ(by_a(), "not on our line");
  w.at(kB).chain.doubt();
  w.ask(kA, kB, 5);
  EXPECT_EQ(by_a(), "in doubt");
  w.at(kB).chain.clear_doubt();
  w.ask(kA, kB, 5);
  EXPECT_EQ(by_a({.keepers_dead = true}), "processes alive");
  EXPECT_EQ(by_a({.qemu_reaped = true}), "processes alive");
  const auto given = w.judge(kA).may_hand_over(kB, own(5), kStill, nullptr);
  ASSERT_TRUE(given.has_value());
  EXPECT_EQ(given->holder, kB);
  EXPECT_TRUE(given->is_standby(kA));
  EXPECT_EQ(given->line, line(5));
  w.pass(4);  // an answer counts for three seconds, a hand-over's too
  EXPECT_EQ(by_a(), "not asked");
}

TEST_F(HandOver, below_the_durable_position_wants_the_word_of_that_position) {
  w.ask(kA, kB, 4);
  EXPECT_EQ(by_a(), "word needed");
  const Word other = w.word(kA, Act::kHandOver, WordKind::kWritesGivenUp, {}, line(3));
  EXPECT_EQ(by_a(kStill, &other), "word of other");
  const Word word = w.word(kA, Act::kHandOver, WordKind::kWritesGivenUp, {}, line(4));
  const auto given = w.judge(kA).may_hand_over(kB, own(5), kStill, &word);
  ASSERT_TRUE(given.has_value());
  EXPECT_EQ(given->word, WordKind::kWritesGivenUp);
  EXPECT_EQ(given->line, line(4));
}

TEST_F(HandOver, of_a_vm_that_does_not_run_wants_every_member_asked) {
  w.protect(kC);
  w.share(kA, kB);
  w.pass(10);
  w.ask(kA, kB, 5);
  EXPECT_EQ(by_a(), "not asked");  // C
  ask_in_vain(w, kA, kC);
  EXPECT_EQ(by_a(), "standby silent");
  w.ask(kA, kC, 5);
  EXPECT_EQ(by_a(), "allowed");
  // What runs is the newest there is: nobody is asked but the taker.
  TestWorld runs;
  runs.protect(kB);
  runs.protect(kC);
  runs.share(kA, kB);
  runs.at(kA).asking.opened(runs.at(kA).chain.digest());
  runs.pass(10);
  runs.ask(kA, kB, 5);
  EXPECT_TRUE(runs.judge(kA).may_hand_over(kB, own(5), kStill, nullptr).has_value());
}

// ---- take ----

struct Take : ::testing::Test {
  Take() { w.protect(kB); }
  Word off(std::vector<SiteId> silent = {kA}) {
    return w.word(kB, Act::kTake, WordKind::kSourceIsOff, std::move(silent));
  }
  std::string by_b(const Word* word, const OwnLine& has = own(5)) {
    return name_of(w.judge(kB).may_take(has, word, 0));
  }
  TestWorld w;
};

TEST_F(Take, is_a_members_with_a_whole_line_from_a_silent_holder_on_a_word) {
  const Word now = off();
  EXPECT_EQ(name_of(w.judge(kA).may_take(own(5), &now, 0)), "is holder");
  EXPECT_EQ(leads_on(w.judge(kA).may_take(own(5), &now, 0)), "go on");
  w.share(kA, kC);
  EXPECT_EQ(name_of(w.judge(kC).may_take(own(5), &now, 0)), "not member");
  EXPECT_EQ(by_b(&now, {}), "no line");
  EXPECT_EQ(by_b(&now, {.end = line(5)}), "line not whole");
  EXPECT_EQ(by_b(nullptr), "word needed");
  w.ask(kB, kA);
  EXPECT_EQ(by_b(&now), "holder answers");
  w.pass(10);
  ask_in_vain(w, kB, kA);
  const auto take = w.judge(kB).may_take(own(5), &now, 0);
  ASSERT_TRUE(take.has_value());
  EXPECT_EQ(take->holder, kB);
  EXPECT_EQ(take->word, WordKind::kSourceIsOff);
  EXPECT_TRUE(take->members.is(kA, Standing::kMember));  // no standby
  EXPECT_EQ(take->epoch, Epoch(2));
}

// Not heard is not silent: nobody has put a question to it.
TEST_F(Take, wants_every_member_asked_who_is_silent_too) {
  w.pass(10);
  const Word word = off();
  EXPECT_EQ(by_b(&word), "not asked");
  ask_in_vain(w, kB, kA);
  EXPECT_EQ(by_b(&word), "allowed");
  w.pass(4);
  EXPECT_EQ(by_b(&word), "not asked");  // and just now
  TestWorld three;
  three.protect(kB);
  three.ask(kA, kC);
  three.add(kA, *three.judge(kA).may_protect(kC));
  three.share(kA, kB);
  three.pass(10);
  ask_in_vain(three, kB, kA);
  const Word of_a = three.word(kB, Act::kTake, WordKind::kSourceIsOff, {kA});
  EXPECT_EQ(name_of(three.judge(kB).may_take(own(5), &of_a, 0)), "not asked");
  EXPECT_EQ(three.judge(kB).may_take(own(5), &of_a, 0).error().site, kC);
  ask_in_vain(three, kB, kC);
  EXPECT_EQ(name_of(three.judge(kB).may_take(own(5), &of_a, 0)), "allowed");
}

TEST_F(Take, an_answer_of_another_head_and_a_silent_standby_that_is_not_named_stand_against_it) {
  w.protect(kC);
  w.share(kA, kB);
  w.pass(10);
  ask_in_vain(w, kB, kA);
  ask_in_vain(w, kB, kC);
  const Word of_a = off();
  EXPECT_EQ(by_b(&of_a), "word of other");
  const Word of_both = off({kA, kC});
  EXPECT_EQ(by_b(&of_both), "allowed");
  // C took it first, and says so.
  w.take(kC, {kA, kB});
  ask_in_vain(w, kB, kA);
  w.ask(kB, kC);
  EXPECT_EQ(by_b(&of_both), "peer other head");
  w.share(kC, kB);
  EXPECT_EQ(by_b(&of_both), "word of other");  // its head is gone
}

TEST_F(Take, a_word_is_of_one_vm_head_act_kind_position_and_site) {
  w.pass(10);
  ask_in_vain(w, kB, kA);
  const auto refused = [&](auto change) {
    Word word = off();
    change(word);
    return by_b(&word);
  };
  EXPECT_EQ(refused([](Word&) {}), "allowed");
  EXPECT_EQ(refused([](Word& x) { x.vm.bytes[0] ^= std::byte{1}; }), "word of other");
  EXPECT_EQ(refused([](Word& x) { x.head.bytes[0] ^= std::byte{1}; }), "word of other");
  EXPECT_EQ(refused([](Word& x) { x.act = Act::kTakeOver; }), "word of other");
  EXPECT_EQ(refused([](Word& x) { x.kind = WordKind::kLostForGood; }), "word of other");
  EXPECT_EQ(refused([](Word& x) { x.silent = {kC}; }), "word of other");
  EXPECT_EQ(refused([](Word& x) { x.line = line(6); }), "word of other");  // more than is here
  EXPECT_EQ(refused([](Word& x) { x.line = line(4); }), "allowed");        // more has come since
}

TEST_F(Take, from_whom_one_distrusts_needs_no_silence_and_expels_it) {
  w.ask(kB, kA);
  const Word word = w.word(kB, Act::kDistrust, WordKind::kDistrusted, {kA});
  const auto take = w.judge(kB).may_take(own(5), &word, 0);
  ASSERT_TRUE(take.has_value());
  EXPECT_EQ(take->word, WordKind::kDistrusted);
  EXPECT_FALSE(take->names(kA));
  w.add(kB, *take);
  EXPECT_TRUE(w.at(kB).chain.expelled(kA));
}

TEST_F(Take, all_other_standbys_stay) {
  w.protect(kC);
  w.share(kA, kB);
  w.take(kB, {kA, kC});
  EXPECT_TRUE(w.at(kB).chain.title().is_standby(kC));
  w.ask(kB, kA);
  ask_in_vain(w, kB, kC);
  EXPECT_EQ(name_of(w.judge(kB).may_open(own(5))), "standby silent");
}

// ---- go on ----

TEST(GoOn, is_the_holders_where_a_standby_is_silent_on_a_word_that_names_it) {
  TestWorld w;
  w.protect(kB);
  const auto go_on = [&](const Word* word, const OwnLine& has = own(5)) {
    return name_of(w.judge(kA).may_go_on(has, word));
  };
  Word word = w.word(kA, Act::kGoOn, WordKind::kWithoutPeer, {kB}, line(5));
  EXPECT_EQ(go_on(nullptr), "word needed");
  EXPECT_EQ(go_on(&word, {}), "no line");
  w.ask(kA, kB, 5);
  EXPECT_EQ(go_on(&word), "nobody silent");
  EXPECT_EQ(leads_on(w.judge(kA).may_go_on(own(5), &word)), "start");
  w.pass(4);
  ask_in_vain(w, kA, kB);
  EXPECT_EQ(go_on(&word), "not answered");
  w.pass(2);
  EXPECT_EQ(go_on(&word), "allowed");
  const Word of_c = w.word(kA, Act::kGoOn, WordKind::kWithoutPeer, {kC});
  EXPECT_EQ(go_on(&of_c), "word of other");
  EXPECT_EQ(go_on(&word, own(4)), "word of other");  // it was said of more than is here
  const auto on = w.judge(kA).may_go_on(own(6), &word);
  ASSERT_TRUE(on.has_value());
  EXPECT_EQ(on->holder, kA);
  EXPECT_TRUE(on->is_standby(kB));  // its standbys stay
  EXPECT_EQ(on->epoch, Epoch(1));
  w.add(kA, *on);
  w.at(kA).asking.excuse(word, w.at(kA).chain.digest(), w.now);
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(6))), "not asked");
  ask_in_vain(w, kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(6))), "allowed");
}

// ---- give up, join, take over ----

TEST(GiveUp, follows_both_and_makes_standbys_of_the_giver_and_of_who_stood_by_in_either) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_give_up(kStill)), "no rival");
  make_rivals(w);
  EXPECT_EQ(name_of(w.judge(kA).may_give_up(kStill)), "not asked");
  w.ask(kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_give_up(kStill)), "peer not whole");
  EXPECT_EQ(leads_on(w.judge(kA).may_give_up(kStill)), "take over");
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_give_up({})), "processes alive");
  const auto up = w.judge(kA).may_give_up(kStill);
  ASSERT_TRUE(up.has_value());
  EXPECT_EQ(up->holder, kB);
  EXPECT_TRUE(up->is_standby(kA));
  EXPECT_EQ(up->beside, w.at(kB).chain.digest());
  w.add(kA, *up);
  EXPECT_FALSE(w.at(kA).chain.has_rivals());
  EXPECT_EQ(w.share(kA, kB).last, Outcome::kHead);
  EXPECT_FALSE(w.at(kB).chain.has_rivals());
  // C, which neither names, has nothing to give up.
  TestWorld other;
  make_rivals(other);
  other.share(kA, kC);
  EXPECT_EQ(name_of(other.judge(kC).may_give_up(kStill)), "not holder");
}

TEST(GiveUp, waits_for_what_the_other_side_knows_beside) {
  TestWorld w;
  make_rivals(w);
  w.ask(kA, kB, 5);
  w.at(kB).chain.doubt();
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_give_up(kStill)), "in doubt");
  w.at(kB).chain.clear_doubt();
  w.ask(kB, kA, 5);
  w.add(kB, *w.judge(kB).may_give_up(kStill));
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_give_up(kStill)), "peer other head");
}

TEST(GiveUp, of_two_that_gave_up_crosswise_the_first_by_id_does_so_again) {
  TestWorld w;
  make_rivals(w);
  w.ask(kA, kB, 5);
  w.ask(kB, kA, 5);
  const Statement a = *w.judge(kA).may_give_up(kStill);
  const Statement b = *w.judge(kB).may_give_up(kStill);
  w.add(kA, a);
  w.add(kB, b);
  w.share(kA, kB);
  w.share(kB, kA);
  ASSERT_TRUE(w.at(kA).chain.has_rivals() && w.at(kB).chain.has_rivals());
  w.ask(kA, kB, 5);
  w.ask(kB, kA, 5);
  EXPECT_EQ(name_of(w.judge(kB).may_give_up(kStill)), "not crossed");
  w.add(kA, *w.judge(kA).may_give_up(kStill));
  EXPECT_EQ(w.share(kA, kB).last, Outcome::kHead);
  EXPECT_EQ(w.at(kA).chain.digest(), w.at(kB).chain.digest());
  EXPECT_TRUE(w.at(kB).chain.holder_is(kB));
  EXPECT_FALSE(w.at(kB).chain.has_rivals());
}

TEST(Join, is_of_a_site_that_both_rivals_name) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_join(own(5))), "no rival");
  make_rivals(w);
  EXPECT_EQ(name_of(w.judge(kA).may_join(own(5))), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_join(own(5))), "not holder");
  // B resigns under a head that A's policy does not follow: both name A.
  TestWorld both;
  both.protect(kB);
  both.add(kA, *both.judge(kA).may_set_policy(60, true));
  both.add(kB, *both.judge(kB).may_resign());
  both.share(kB, kA);
  EXPECT_EQ(name_of(both.judge(kA).may_join({})), "no line");
  const auto join = both.judge(kA).may_join(own(5));
  ASSERT_TRUE(join.has_value());
  EXPECT_TRUE(join->is_standby(kB));  // of either
  both.add(kA, *join);
  EXPECT_EQ(both.share(kA, kB).last, Outcome::kHead);
  EXPECT_FALSE(both.at(kB).chain.has_rivals());
}

TEST(TakeOver, is_refused_while_one_of_the_holders_answers) {
  TestWorld w;
  const Word early = w.word(kA, Act::kTakeOver, WordKind::kLostForGood, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(5), &early)), "no rival");
  make_rivals(w);
  Word lost = w.word(kA, Act::kTakeOver, WordKind::kLostForGood, {kB}, line(5));
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(5), nullptr)), "word needed");
  EXPECT_EQ(name_of(w.judge(kA).may_take_over({}, &lost)), "no line");
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(5), &lost)), "holder answers");
  EXPECT_EQ(leads_on(w.judge(kA).may_take_over(own(5), &lost)), "settle");
  w.pass(10);
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(5), &lost)), "not asked");
  ask_in_vain(w, kA, kB);
  const Word of_c = w.word(kA, Act::kTakeOver, WordKind::kLostForGood, {kC});
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(5), &of_c)), "word of other");
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(4), &lost)), "word of other");
  const auto over = w.judge(kA).may_take_over(own(5), &lost);
  ASSERT_TRUE(over.has_value());
  EXPECT_EQ(over->holder, kA);
  EXPECT_EQ(over->word, WordKind::kLostForGood);
  EXPECT_TRUE(over->members.is(kB, Standing::kMember));
}

// B was expelled, and a site that stood by under its take signs on: the rival names a holder that
// is out here already.
struct ExpelledRival : ::testing::Test {
  ExpelledRival() {
    w.protect(kB);
    w.protect(kC);
    w.share(kA, kB);
    w.take(kB, {kA, kC});
    w.share(kB, kC);
    w.add(kC, *w.judge(kC).may_resign());
    w.pass(10);
    const Word lost = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kB});
    w.add(kA, *w.judge(kA).may_expel(kB, &lost));
    w.share(kC, kA);
    HF_ASSERT(w.at(kA).chain.has_rivals());
    HF_ASSERT(w.at(kA).chain.rivals().front()->statement().holder == kB);
  }
  TestWorld w;
};

TEST_F(ExpelledRival, is_taken_over_on_the_word_that_it_is_distrusted) {
  const Word word = w.word(kA, Act::kDistrust, WordKind::kDistrusted, {kB});
  const auto over = w.judge(kA).may_take_over(own(5), &word);
  ASSERT_TRUE(over.has_value());
  EXPECT_FALSE(over->names(kB));
  w.add(kA, *over);
  EXPECT_EQ(w.share(kA, kC).last, Outcome::kHead);
}

TEST_F(ExpelledRival, is_not_given_up_to) {
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_give_up(kStill)), "expelled");
  EXPECT_EQ(leads_on(w.judge(kA).may_give_up(kStill)), "take over");
}

TEST_F(ExpelledRival, is_settled_by_expelling_it_again) {
  const Word word = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kB});
  const auto expel = w.judge(kA).may_expel(kB, &word);
  ASSERT_TRUE(expel.has_value()) << name_of(expel);
  w.add(kA, *expel);
  EXPECT_EQ(w.share(kA, kC).last, Outcome::kHead);
  EXPECT_FALSE(w.at(kC).chain.has_rivals());
}

// Whom the rival's line has expelled can't go on by it.
TEST(TakeOver, is_not_of_a_site_that_the_rival_has_expelled) {
  TestWorld w;
  w.protect(kB);
  const Word distrust = w.word(kB, Act::kDistrust, WordKind::kDistrusted, {kA});
  w.add(kB, *w.judge(kB).may_take(own(5), &distrust, 0));
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kB, kA);
  ASSERT_TRUE(w.at(kA).chain.has_rivals());
  w.pass(10);
  ask_in_vain(w, kA, kB);
  const Word lost = w.word(kA, Act::kTakeOver, WordKind::kLostForGood, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_take_over(own(5), &lost)), "expelled");
  EXPECT_EQ(leads_on(w.judge(kA).may_take_over(own(5), &lost)), "new vm");
  const Word out = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kB, &out)), "expelled");
  EXPECT_TRUE(w.judge(kA).may_let_go().has_value());
}

// Who was expelled once, and is a member anew on one side, is not dropped unasked by a join.
TEST(Join, keeps_who_was_expelled_before_the_lines_parted_and_protected_again_since) {
  TestWorld w;
  w.protect(kB);
  w.protect(kC);
  w.share(kA, kB);
  w.pass(10);
  const Word lost = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kC});
  w.add(kA, *w.judge(kA).may_expel(kC, &lost));
  w.share(kA, kB);
  w.share(kA, kC);
  w.take(kB, {kA});  // from here the lines part
  w.protect(kC);
  ASSERT_TRUE(w.at(kA).chain.title().is_standby(kC));
  w.share(kB, kA);
  w.share(kA, kB);
  w.ask(kA, kB, 5);
  const auto up = w.judge(kA).may_give_up(kStill);
  ASSERT_TRUE(up.has_value());
  EXPECT_TRUE(up->is_standby(kC));
}

// And what it signs under what protects it again follows its expulsion, so it counts.
TEST(Expel, who_is_protected_again_may_sign_where_another_line_does_not_know_of_it) {
  TestWorld w;
  w.protect(kB);
  w.protect(kC);
  w.share(kA, kB);
  w.pass(10);
  const Word lost = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kC});
  w.add(kA, *w.judge(kA).may_expel(kC, &lost));
  w.share(kA, kB);
  w.share(kA, kC);
  w.take(kB, {kA});
  w.protect(kC);
  w.add(kC, *w.judge(kC).may_resign());
  EXPECT_EQ(w.share(kC, kB).last, Outcome::kRival);
}

// ---- opening ----

TEST(Open, wants_the_line_that_the_title_names) {
  TestWorld w;
  w.protect(kB);
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_open({})), "no line");
  EXPECT_EQ(name_of(w.judge(kA).may_open({.end = line(5)})), "line not whole");
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(4))), "line not whole");
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(5))), "allowed");
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(7))), "allowed");
}

}  // namespace
}  // namespace hf::title
