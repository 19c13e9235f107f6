// Questions, answers, silence and permissions, against the clock.
#include "title/asking.h"

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
using testing::line;
using testing::name_of;
using testing::own;
using testing::TestWorld;

struct Asked : ::testing::Test {
  Asked() {
    w.protect(kB);
    w.pass(10);
  }
  Asking& asking(const SiteId& site = kA) { return w.at(site).asking; }
  std::string open(const SiteId& site = kA) { return name_of(w.judge(site).may_open(own(5))); }
  Question ask(const SiteId& to = kB) {
    return asking().ask(w.at(kA).chain, to, testing::next_nonce(), w.now);
  }
  SignedAnswer answer(const Question& question) {
    return SignedAnswer::sign(answer_from(w.at(kB).chain, question), KeyedSigner(kB));
  }
  std::string take(const SignedAnswer& given) {
    return name_of(asking().take_answer(given, w.verifier, w.now));
  }
  TestWorld w;
};

TEST_F(Asked, from_cold_every_member_is_asked_and_an_answer_counts_for_three_seconds) {
  EXPECT_EQ(open(), "not asked");
  const Question question = ask();
  w.pass(1);
  EXPECT_EQ(take(answer(question)), "allowed");
  EXPECT_EQ(open(), "allowed");
  // From when the question was sent, whenever its answer came.
  EXPECT_EQ(w.judge(kA).may_open(own(5))->until.value, w.now.value + 2 * kSecond);
  w.pass(2);
  EXPECT_EQ(open(), "allowed");
  w.now = Instant(w.now.value + 1);
  EXPECT_EQ(open(), "not asked");
}

TEST_F(Asked, an_answer_that_comes_late_counts_nothing) {
  const Question question = ask();
  w.pass(3);
  EXPECT_EQ(take(answer(question)), "allowed");
  const Question late = ask();
  w.now = Instant(w.now.value + kAnswerLife + 1);
  EXPECT_EQ(take(answer(late)), "answer too old");
  EXPECT_EQ(open(), "not asked");
}

TEST_F(Asked, an_answer_is_to_the_newest_question_with_its_nonce_site_vm_and_head) {
  const Question first = ask();
  const Question second = ask();
  EXPECT_EQ(take(answer(first)), "not asked");
  const auto refused = [&](auto change) {
    Answer said = answer_from(w.at(kB).chain, second);
    change(said);
    return take(SignedAnswer::sign(said, KeyedSigner(said.from)));
  };
  EXPECT_EQ(refused([](Answer& a) { a.nonce.bytes[0] ^= std::byte{1}; }), "not asked");
  EXPECT_EQ(refused([](Answer& a) { a.from = kC; }), "not asked");
  EXPECT_EQ(refused([](Answer& a) { a.to = kC; }), "not asked");
  EXPECT_EQ(refused([](Answer& a) { a.vm.bytes[0] ^= std::byte{1}; }), "not asked");
  EXPECT_EQ(refused([](Answer& a) { a.about.bytes[0] ^= std::byte{1}; }), "not asked");
  SignedAnswer forged = answer(second);
  forged.answer.accepts = true;
  EXPECT_EQ(take(forged), "bad signature");
  EXPECT_EQ(open(), "standby silent");  // none of these was a sign of it
  EXPECT_EQ(refused([](Answer&) {}), "allowed");
  EXPECT_EQ(open(), "allowed");
  // Twice is once.
  EXPECT_EQ(take(answer(second)), "allowed");
  EXPECT_EQ(open(), "allowed");
}

TEST_F(Asked, silence_is_five_seconds_without_a_sign_from_it_or_an_answer_to_it) {
  asking().heard(kB, w.now);
  w.pass(4);
  EXPECT_FALSE(asking().silent(kB, w.now));
  w.pass(1);
  EXPECT_TRUE(asking().silent(kB, w.now));
  asking().answered(kB, w.now);
  EXPECT_FALSE(asking().silent(kB, w.now));
  w.pass(5);
  EXPECT_TRUE(asking().silent(kB, w.now));
  asking().restarted(w.now);  // counted anew
  EXPECT_FALSE(asking().silent(kB, w.now));
  w.pass(5);
  EXPECT_TRUE(asking().silent(kB, w.now));
}

TEST_F(Asked, a_standbys_silence_holds_it_and_another_members_does_not) {
  w.ask(kA, kC);
  w.add(kA, *w.judge(kA).may_protect(kC));  // being seeded
  w.pass(10);
  ask(kB);
  ask(kC);
  EXPECT_EQ(open(), "standby silent");
  EXPECT_EQ(w.judge(kA).may_open(own(5)).error().site, kB);
  w.share(kA, kB);
  w.ask(kA, kB);
  EXPECT_EQ(open(), "allowed");
  // But one that answers with another head does.
  w.share(kA, kC);
  w.take(kC, {kA, kB});
  w.ask(kA, kB);
  w.ask(kA, kC);
  EXPECT_EQ(open(), "peer other head");
}

TEST_F(Asked, a_newer_head_or_a_rival_ends_the_start) {
  w.take(kB, {kA});
  w.ask(kA, kB);
  EXPECT_EQ(open(), "peer other head");
  // One that knows of a rival beside the head that both have.
  TestWorld other;
  other.protect(kB);
  Answer said = answer_from(
      other.at(kB).chain,
      other.at(kA).asking.ask(other.at(kA).chain, kB, testing::next_nonce(), other.now));
  said.rivals.push_back(Digest{});
  said.rivals.back().bytes[0] = std::byte{1};
  ASSERT_TRUE(
      other.at(kA)
          .asking.take_answer(SignedAnswer::sign(said, KeyedSigner(kB)), other.verifier, other.now)
          .has_value());
  EXPECT_EQ(name_of(other.judge(kA).may_open(own(5))), "rival");
}

TEST_F(Asked, a_changed_head_is_asked_about_again) {
  w.ask(kA, kB);
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  EXPECT_EQ(open(), "not asked");
}

// ---- excused by a word ----

struct Excused : Asked {
  // A goes on without B.
  Excused() {
    ask();
    word = w.word(kA, Act::kGoOn, WordKind::kWithoutPeer, {kB});
    w.add(kA, *w.judge(kA).may_go_on(own(5), &word));
    asking().excuse(word, w.at(kA).chain.digest(), w.now);
    ask();
  }
  Word word;
};

TEST_F(Excused, until_the_first_incarnation_is_open) {
  EXPECT_EQ(open(), "allowed");
  asking().opened(w.at(kA).chain.digest());
  asking().stopped();
  EXPECT_EQ(open(), "standby silent");
}

TEST_F(Excused, for_at_most_ten_minutes) {
  w.pass(600);
  ask();
  EXPECT_EQ(open(), "allowed");
  w.pass(1);
  ask();
  EXPECT_EQ(open(), "standby silent");
}

TEST_F(Excused, as_long_as_nothing_is_heard_from_it) {
  w.share(kA, kB);
  w.ask(kA, kB);
  EXPECT_EQ(open(), "allowed");
  w.pass(10);
  ask();
  EXPECT_EQ(open(), "standby silent");
}

TEST_F(Excused, only_by_this_vault_process) {
  asking().restarted(w.now);
  w.pass(10);
  ask();
  EXPECT_EQ(open(), "standby silent");
}

TEST_F(Excused, only_under_this_head) {
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  ask();
  EXPECT_EQ(open(), "standby silent");
}

// A word excuses silence, and who is not silent isn't.
TEST_F(Asked, a_word_does_not_excuse_who_was_heard_just_now) {
  const Word word = w.word(kA, Act::kGoOn, WordKind::kWithoutPeer, {kB});
  asking().heard(kB, w.now);
  asking().excuse(word, w.at(kA).chain.digest(), w.now);
  w.pass(10);
  ask();
  EXPECT_EQ(open(), "standby silent");
}

// ---- handed to ----

struct Handed : Asked {
  Handed() {
    w.protect(kC);
    w.share(kA, kB);
    asking().opened(w.at(kA).chain.digest());
    w.ask(kA, kB, 5);
  }
  void hand_over() { w.add(kA, *w.judge(kA).may_hand_over(kB, own(5), kStill, nullptr)); }
  void learned() {
    w.share(kA, kB);
    asking(kB).head_changed(w.at(kB).chain);
  }
};

TEST_F(Handed, the_givers_own_answer_is_the_permission_and_hearsay_is_not) {
  hand_over();
  w.share(kA, kC);
  w.share(kC, kB);  // from the third site
  asking(kB).head_changed(w.at(kB).chain);
  EXPECT_EQ(open(kB), "not asked");
  w.ask(kB, kC, 5);
  EXPECT_EQ(open(kB), "not asked");
  w.ask(kB, kA, 5);
  EXPECT_EQ(open(kB), "allowed");
  w.pass(4);
  EXPECT_EQ(open(kB), "not asked");
}

// "Sign now" is about the head before: what it answers is the new one. Tidying is for memory only.
TEST_F(Handed, the_answer_to_sign_now_counts_tidied_or_not) {
  const Question sign_now = asking(kB).ask(w.at(kB).chain, kA, testing::next_nonce(), w.now);
  hand_over();
  const Answer said = answer_from(w.at(kA).chain, sign_now);
  learned();
  asking(kB).tidy(w.at(kB).chain, w.now);
  EXPECT_EQ(
      name_of(asking(kB).take_answer(SignedAnswer::sign(said, KeyedSigner(kA)), w.verifier, w.now)),
      "allowed");
  asking(kB).tidy(w.at(kB).chain, w.now);
  EXPECT_EQ(open(kB), "allowed");
  w.pass(3);
  EXPECT_EQ(open(kB), "allowed");
  w.now = Instant(w.now.value + 1);
  EXPECT_EQ(open(kB), "not asked");
}

TEST_F(Handed, it_is_forgotten_at_a_restart) {
  hand_over();
  learned();
  w.ask(kB, kA, 5);
  EXPECT_EQ(open(kB), "allowed");
  asking(kB).restarted(w.now);
  EXPECT_EQ(open(kB), "not asked");
}

// ---- taken back ----

struct TakenBack : Asked {
  TakenBack() {
    asking().opened(w.at(kA).chain.digest());
    asking().giving(w.at(kA).chain.digest(), 30 * kSecond, w.now);
  }
};

TEST_F(TakenBack, what_was_not_given_away_starts_again_unasked_within_the_acts_limits) {
  w.pass(30);
  EXPECT_EQ(open(), "allowed");
  w.now = Instant(w.now.value + 1);
  EXPECT_EQ(open(), "not asked");
}

TEST_F(TakenBack, the_limits_are_of_the_act_and_not_begun_anew) {
  w.pass(20);
  asking().giving(w.at(kA).chain.digest(), 30 * kSecond, w.now);
  w.pass(20);
  EXPECT_EQ(open(), "not asked");
}

TEST_F(TakenBack, not_after_a_restart) {
  asking().restarted(w.now);
  EXPECT_EQ(open(), "not asked");
}

TEST_F(TakenBack, not_after_it_was_stopped_for_another_reason) {
  asking().stopped();
  EXPECT_EQ(open(), "not asked");
  EXPECT_FALSE(asking().run_permitted(w.at(kA).chain.digest(), w.now));
}

// The guest is stopped already: whatever changes the head meanwhile, its run is over, and what is
// handed over after that is a VM that does not run.
TEST_F(TakenBack, a_head_that_changes_meanwhile_ends_the_run) {
  w.add(kB, *w.judge(kB).may_resign());
  w.share(kB, kA);
  asking().head_changed(w.at(kA).chain);
  EXPECT_EQ(open(), "not asked");
  EXPECT_FALSE(asking().run_permitted(w.at(kA).chain.digest(), w.now));
}

TEST_F(TakenBack, a_running_guest_goes_on_under_a_head_of_the_same_tenure) {
  asking().opened(w.at(kA).chain.digest());
  w.add(kB, *w.judge(kB).may_resign());
  w.share(kB, kA);
  asking().head_changed(w.at(kA).chain);
  EXPECT_TRUE(asking().run_permitted(w.at(kA).chain.digest(), w.now));
}

// ---- bounds ----

TEST_F(Asked, ten_thousand_strangers_cost_nothing_and_push_no_member_out) {
  w.ask(kA, kB, 5);
  for (uint64_t i = 0; i < 10'000; ++i) {
    SiteId stranger;
    store_le(stranger.bytes.data() + 4, i + 1U);
    asking().heard(stranger, w.now);
  }
  EXPECT_EQ(open(), "allowed");
  EXPECT_FALSE(asking().silent(kB, w.now));
}

}  // namespace
}  // namespace hf::title
