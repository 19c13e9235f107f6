// The statement table of the title, row by row: what the holder may sign, and each way in which it
// is refused, by name. Changes of holder: judge_holder_test.cpp; shipping, returning, doubt:
// judge_running_test.cpp.
#include "title/judge.h"

#include <gtest/gtest.h>

#include <functional>

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

struct NamedAct {
  const char* name;
  std::function<std::string(const Judge&)> ask;
};

// Acts of the holder, and whatever no conflict may stand beside.
std::vector<NamedAct> acts_without_a_rival() {
  return {
      {"protect", [](const Judge& j) { return name_of(j.may_protect(kB)); }},
      {"stand by", [](const Judge& j) { return name_of(j.may_stand_by(kB, own(5))); }},
      {"resign", [](const Judge& j) { return name_of(j.may_resign()); }},
      {"policy", [](const Judge& j) { return name_of(j.may_set_policy(9, true)); }},
      {"rewind",
       [](const Judge& j) {
         return name_of(j.may_rewind(line(2), own(5), kStill, true, nullptr));
       }},
      {"hand-over",
       [](const Judge& j) { return name_of(j.may_hand_over(kB, own(5), kStill, nullptr)); }},
      {"take", [](const Judge& j) { return name_of(j.may_take(own(5), nullptr, 0)); }},
      {"go on", [](const Judge& j) { return name_of(j.may_go_on(own(5), nullptr)); }},
      {"end", [](const Judge& j) { return name_of(j.may_end(kStill)); }},
      {"checkpoint", [](const Judge& j) { return name_of(j.may_checkpoint()); }},
      {"ship", [](const Judge& j) { return name_of(j.may_ship(kB, Digest{})); }},
      {"release", [](const Judge& j) { return name_of(j.may_release()); }},
      {"open", [](const Judge& j) { return name_of(j.may_open(own(5))); }},
  };
}
std::vector<NamedAct> all_acts() {
  auto acts = acts_without_a_rival();
  acts.push_back({"expel", [](const Judge& j) { return name_of(j.may_expel(kB, nullptr)); }});
  acts.push_back({"give up", [](const Judge& j) { return name_of(j.may_give_up(kStill)); }});
  acts.push_back({"join", [](const Judge& j) { return name_of(j.may_join(own(5))); }});
  acts.push_back(
      {"take over", [](const Judge& j) { return name_of(j.may_take_over(own(5), nullptr)); }});
  acts.push_back({"return", [](const Judge& j) { return name_of(j.may_return({})); }});
  return acts;
}

TEST(Judge, every_act_is_about_the_head_that_it_names) {
  TestWorld w;
  w.protect(kB);
  Digest other;
  other.bytes[0] = std::byte{9};
  const Judge of_another(w.at(kA).chain, w.at(kA).asking, other, w.now, Micros(1));
  const Judge of_nothing(w.at(kC).chain, w.at(kC).asking, Digest{}, w.now, Micros(1));
  for (const auto& act : all_acts()) {
    EXPECT_EQ(act.ask(of_another), "other head") << act.name;
    EXPECT_EQ(act.ask(of_nothing), "no title") << act.name;
  }
}

TEST(Judge, a_vault_in_doubt_signs_and_releases_nothing) {
  TestWorld w;
  w.protect(kB);
  w.at(kA).chain.doubt();
  for (const auto& act : all_acts()) EXPECT_EQ(act.ask(w.judge(kA)), "in doubt") << act.name;
}

TEST(Judge, while_there_is_a_rival_nothing_starts_ships_or_changes_but_what_settles_it) {
  TestWorld w;
  make_rivals(w);
  for (const auto& act : acts_without_a_rival()) {
    EXPECT_EQ(act.ask(w.judge(kA)), "rival") << act.name;
    EXPECT_EQ(act.ask(w.judge(kB)), "rival") << act.name;
  }
  EXPECT_EQ(leads_on(w.judge(kA).may_release()), "settle");
  // It stops nothing that runs.
  const Digest create = w.at(kA).chain.statements()[0]->digest();
  EXPECT_TRUE(w.judge(kA).may_return({.same_guest = true, .started_under = create}).has_value());
}

TEST(Judge, what_the_holder_signs_nobody_else_does) {
  TestWorld w;
  w.protect(kB);
  EXPECT_EQ(name_of(w.judge(kB).may_protect(kC)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_stand_by(kC, own(5))), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_set_policy(60, true)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_rewind(line(2), own(5), kStill, true, nullptr)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_hand_over(kA, own(5), kStill, nullptr)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_go_on(own(5), nullptr)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_expel(kA, nullptr)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_end(kStill)), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_ship(kA, w.at(kB).chain.digest())), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_release()), "not holder");
  EXPECT_EQ(name_of(w.judge(kB).may_open(own(5))), "not holder");
  EXPECT_EQ(w.judge(kB).may_release().error().site, kA);
}

// ---- create ----

TEST(Create, makes_the_site_that_signs_it_the_holder_and_nobody_else_a_member) {
  TestWorld w;
  const Statement& s = w.at(kA).chain.title();
  EXPECT_EQ(s.holder, kA);
  EXPECT_EQ(s.members, Members().with(kA, Standing::kMember));
  Digest origin;
  origin.bytes[0] = std::byte{5};
  const auto refused = [&](auto change) {
    Statement create = make_create(kA, origin, 0, Micros(1));
    change(create);
    const auto signed_create = Signed::sign(create, KeyedSigner(create.issuer));
    Chain chain(signed_create->vm(), kC);
    return name_of(chain.learn({{signed_create}}, kA, w.verifier, w.now, Micros(1)));
  };
  EXPECT_EQ(refused([](Statement&) {}), "taken");
  EXPECT_EQ(refused([](Statement& c) {
              c.members = c.members.with(kB, Standing::kMember);
              c.holder = kB;
            }),
            "wrong holder");
  EXPECT_EQ(refused([](Statement& c) { c.members = c.members.with(kB, Standing::kStandby); }),
            "wrong members");
  EXPECT_EQ(refused([](Statement& c) { c.epoch = Epoch(2); }), "wrong epoch");
}

// ---- protect ----

TEST(Protect, wants_the_other_vaults_acceptance) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kA)), "already");
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "not asked");
  ask_in_vain(w, kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "not asked");
  w.ask(kA, kB, 0, false);
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "not accepted");
  EXPECT_EQ(leads_on(w.judge(kA).may_protect(kB)), "accept there");
  w.ask(kA, kB);
  w.pass(4);  // an acceptance counts as long as any answer
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "not asked");
  w.ask(kA, kB);
  const auto protect = w.judge(kA).may_protect(kB);
  ASSERT_TRUE(protect.has_value());
  EXPECT_TRUE(protect->members.is(kB, Standing::kBeingSeeded));
  w.add(kA, *protect);
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "already");
}

TEST(Protect, wants_an_answer_about_this_head_from_a_site_that_knows_no_other) {
  TestWorld w;
  w.protect(kB);
  w.protect(kC);
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "already");
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kC)), "already");
  TestWorld other;
  other.protect(kB);
  other.add(kB, *other.judge(kB).may_resign());
  other.share(kB, kA);
  other.ask(kA, kB);
  other.add(kA, *other.judge(kA).may_set_policy(60, true));
  EXPECT_EQ(name_of(other.judge(kA).may_protect(kB)), "not asked");  // about the head before
  // B has taken it meanwhile, and only says so.
  other.share(kA, kB);
  other.take(kB, {kA});
  other.ask(kA, kB);
  EXPECT_EQ(name_of(other.judge(kA).may_protect(kB)), "peer other head");
  EXPECT_EQ(leads_on(other.judge(kA).may_protect(kB)), "learn");
}

TEST(Protect, has_room_for_sixteen) {
  TestWorld w;
  for (int number = 10; !w.at(kA).chain.title().members.full(); ++number) {
    Statement s = w.at(kA).chain.title();
    s.kind = Kind::kProtect;
    s.vm = w.at(kA).chain.vm();
    s.follows = w.at(kA).chain.digest();
    s.origin = {};
    s.members = s.members.with(testing::site(number), Standing::kBeingSeeded);
    w.add(kA, s);
  }
  w.ask(kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_protect(kB)), "too many members");
  EXPECT_EQ(leads_on(w.judge(kA).may_protect(kB)), "unpair or evict");
}

// ---- stand by ----

TEST(StandBy, wants_a_whole_line_on_ours_under_this_head) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "not being seeded");
  w.ask(kA, kB);
  w.add(kA, *w.judge(kA).may_protect(kB));
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "not asked");
  w.ask(kA, kB, 5);  // it does not know that it is protected
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "peer other head");
  w.share(kA, kB);
  w.ask(kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "peer not whole");
  w.ask(kA, kB, 6);
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "not on our line");
  w.at(kB).chain.doubt();
  w.ask(kA, kB, 5);
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "in doubt");
  w.at(kB).chain.clear_doubt();
  w.ask(kA, kB, 4);
  const auto stands = w.judge(kA).may_stand_by(kB, own(5));
  ASSERT_TRUE(stands.has_value());
  EXPECT_EQ(stands->line, line(4));
  EXPECT_TRUE(stands->is_standby(kB));
  w.add(kA, *stands);
  EXPECT_EQ(name_of(w.judge(kA).may_stand_by(kB, own(5))), "already");
}

// ---- resign ----

TEST(Resign, is_a_standbys_or_of_who_is_being_seeded) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_resign()), "is holder");
  w.share(kA, kC);
  EXPECT_EQ(name_of(w.judge(kC).may_resign()), "not member");
  w.ask(kA, kB);
  w.add(kA, *w.judge(kA).may_protect(kB));
  w.share(kA, kB);
  EXPECT_TRUE(w.judge(kB).may_resign().has_value());
  w.ask(kA, kB, 5);
  w.add(kA, *w.judge(kA).may_stand_by(kB, own(5)));
  w.share(kA, kB);
  const auto resign = w.judge(kB).may_resign();
  ASSERT_TRUE(resign.has_value());
  EXPECT_TRUE(resign->members.is(kB, Standing::kMember));
  w.add(kB, *resign);
  EXPECT_EQ(name_of(w.judge(kB).may_resign()), "already");
}

TEST(Resign, counts_for_the_holder_when_it_has_learned_it) {
  TestWorld w;
  w.protect(kB);
  w.add(kB, *w.judge(kB).may_resign());
  w.pass(10);
  ask_in_vain(w, kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(5))), "standby silent");
  w.share(kB, kA);
  ask_in_vain(w, kA, kB);
  EXPECT_EQ(name_of(w.judge(kA).may_open(own(5))), "allowed");
}

// ---- policy ----

TEST(Policy, to_start_alone_wants_an_anchor_or_the_risk) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_set_policy(0, true)), "already");
  EXPECT_EQ(name_of(w.judge(kA).may_set_policy(kStartAfterMax + 1, true)), "wrong policy");
  EXPECT_EQ(name_of(w.judge(kA).may_set_policy(600, false)), "policy unanchored");
  EXPECT_EQ(leads_on(w.judge(kA).may_set_policy(600, false)), "policy with risk");
  const auto policy = w.judge(kA).may_set_policy(600, true);
  ASSERT_TRUE(policy.has_value());
  EXPECT_EQ(policy->start_after, 600U);
  w.add(kA, *policy);
  EXPECT_TRUE(w.judge(kA).may_set_policy(0, false).has_value());  // back to hold: no risk
}

// A standby takes by itself only what the title says it may.
TEST(Policy, a_take_that_stands_on_it_is_refused_where_the_title_holds) {
  TestWorld w;
  w.protect(kB);
  const auto take = [&](const SiteId& issuer) {
    Statement s = w.at(kA).chain.title();
    s.kind = Kind::kTake;
    s.word = WordKind::kStartPolicy;
    s.vm = w.at(kA).chain.vm();
    s.follows = w.at(kA).chain.digest();
    s.issuer = s.holder = issuer;
    s.epoch = s.epoch.next();
    s.members = s.members.with(issuer, Standing::kMember);
    return Signed::sign(s, KeyedSigner(issuer));
  };
  EXPECT_EQ(name_of(w.tell(kA, {{take(kB)}}, kB)), "wrong policy");
  w.add(kA, *w.judge(kA).may_set_policy(600, true));
  EXPECT_EQ(w.tell(kA, {{take(kB)}}, kB).last, Outcome::kHead);
  // Nor may a member that does not stand by.
  TestWorld other;
  other.protect(kB);
  other.add(kA, *other.judge(kA).may_set_policy(600, true));
  other.share(kA, kB);
  other.add(kB, *other.judge(kB).may_resign());
  other.share(kB, kA);
  Statement s = other.at(kA).chain.title();
  s.kind = Kind::kTake;
  s.word = WordKind::kStartPolicy;
  s.follows = other.at(kA).chain.digest();
  s.issuer = s.holder = kB;
  s.epoch = s.epoch.next();
  EXPECT_EQ(name_of(other.tell(kA, {{Signed::sign(s, KeyedSigner(kB))}}, kB)), "not entitled");
}

// ---- rewind ----

TEST(Rewind, is_of_a_stopped_vm_to_a_position_that_is_whole_here_with_the_rest_kept) {
  TestWorld w;
  const auto rewind = [&](const Line& target, const OwnLine& has, const Stillness& still, bool kept,
                          const Word* word) {
    return w.judge(kA).may_rewind(target, has, still, kept, word);
  };
  Word word = w.word(kA, Act::kRewind, WordKind::kWritesGivenUp, {}, line(3));
  EXPECT_EQ(name_of(rewind(line(3), own(5), {.keepers_dead = true}, true, &word)),
            "processes alive");
  EXPECT_EQ(name_of(rewind(line(3), own(5), {.qemu_reaped = true}, true, &word)),
            "processes alive");
  EXPECT_EQ(name_of(rewind(line(3), {}, kStill, true, &word)), "no line");
  EXPECT_EQ(name_of(rewind(line(3), {.end = line(5)}, kStill, true, &word)), "line not whole");
  EXPECT_EQ(name_of(rewind(line(9), own(5), kStill, true, &word)), "no line");
  EXPECT_EQ(name_of(rewind({}, own(5), kStill, true, &word)), "no line");
  EXPECT_EQ(name_of(rewind(line(3), own(5), kStill, false, &word)), "branch first");
  EXPECT_EQ(leads_on(rewind(line(3), own(5), kStill, false, &word)), "keep branch");
  EXPECT_EQ(name_of(rewind(line(3), own(5), kStill, true, nullptr)), "word needed");
  EXPECT_EQ(name_of(rewind(line(2), own(5), kStill, true, &word)), "word of other");
  const auto back = rewind(line(3), own(5), kStill, true, &word);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->line, line(3));
  EXPECT_EQ(back->word, WordKind::kWritesGivenUp);
  // To where it stands, nothing is given up: a change of point's generation, say.
  EXPECT_EQ(name_of(rewind(line(5), own(5), kStill, false, nullptr)), "allowed");
  w.add(kA, *back);
  // The word was for the head before.
  EXPECT_EQ(name_of(rewind(line(3), own(5), kStill, true, &word)), "word of other");
}

// ---- expel ----

TEST(Expel, wants_silence_and_the_word_that_it_is_lost_or_that_it_is_distrusted) {
  TestWorld w;
  w.protect(kB);
  const Word lost = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kA, &lost)), "is holder");
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kC, &lost)), "not member");
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kB, nullptr)), "word needed");
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kB, &lost)), "not answered");  // it answered just now
  w.pass(10);
  const Word of_others = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kC});
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kB, &of_others)), "word of other");
  const Word weaker = w.word(kA, Act::kExpel, WordKind::kSourceIsOff, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kB, &weaker)), "word of other");
  const Word of_another_act = w.word(kA, Act::kTake, WordKind::kLostForGood, {kB});
  EXPECT_EQ(name_of(w.judge(kA).may_expel(kB, &of_another_act)), "word of other");
  const auto expel = w.judge(kA).may_expel(kB, &lost);
  ASSERT_TRUE(expel.has_value());
  EXPECT_FALSE(expel->names(kB));
  // Whom one distrusts may answer what it likes.
  w.at(kA).asking.heard(kB, w.now);
  const Word distrust = w.word(kA, Act::kDistrust, WordKind::kDistrusted, {kB});
  const auto out = w.judge(kA).may_expel(kB, &distrust);
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->word, WordKind::kDistrusted);
}

// ---- end ----

TEST(End, is_the_holders_with_nothing_running_and_a_member_may_take_it_back_for_a_while) {
  TestWorld w;
  w.protect(kB);
  EXPECT_EQ(name_of(w.judge(kA).may_end({})), "processes alive");
  w.add(kA, *w.judge(kA).may_end(kStill));
  EXPECT_TRUE(w.at(kA).chain.title().holder.is_zero());
  for (const auto& act : acts_without_a_rival()) {
    const std::string said = act.ask(w.judge(kA));
    EXPECT_TRUE(said == "ended" || act.name == std::string("take")) << act.name << ": " << said;
  }
  w.share(kA, kB);
  w.ask(kB, kA, 5);
  constexpr uint64_t kDay = 24 * 3600 * kSecond;
  EXPECT_EQ(name_of(w.judge(kB).may_take({}, nullptr, kDay)), "no line");
  const auto take = w.judge(kB).may_take(own(5), nullptr, kDay);
  ASSERT_TRUE(take.has_value());
  EXPECT_EQ(take->word, WordKind::kNone);
  w.pass(25 * 3600);
  w.ask(kB, kA, 5);
  EXPECT_EQ(name_of(w.judge(kB).may_take(own(5), nullptr, kDay)), "tombstone gone");
  EXPECT_EQ(leads_on(w.judge(kB).may_take(own(5), nullptr, kDay)), "new vm");
}

// A word that excuses silence after an end is bound like any other.
TEST(End, a_take_of_what_ended_wants_a_word_of_this_head_for_who_is_silent) {
  TestWorld w;
  w.protect(kB);
  w.protect(kC);
  w.share(kA, kB);
  const Word stale = w.word(kB, Act::kTake, WordKind::kSourceIsOff, {kA, kC});
  w.add(kA, *w.judge(kA).may_end(kStill));
  w.share(kA, kB);
  w.pass(10);
  ask_in_vain(w, kB, kA);
  ask_in_vain(w, kB, kC);
  constexpr uint64_t kDay = 24 * 3600 * kSecond;
  EXPECT_EQ(name_of(w.judge(kB).may_take(own(5), nullptr, kDay)), "word of other");
  EXPECT_EQ(name_of(w.judge(kB).may_take(own(5), &stale, kDay)), "word of other");
  const Word fresh = w.word(kB, Act::kTake, WordKind::kSourceIsOff, {kA, kC});
  EXPECT_EQ(name_of(w.judge(kB).may_take(own(5), &fresh, kDay)), "allowed");
}

// ---- checkpoint, and the bound that it is for ----

TEST(Checkpoint, is_laid_out_and_the_bound_of_depth_refuses_what_would_not_be_loaded_again) {
  TestWorld w;
  EXPECT_EQ(name_of(w.judge(kA).may_checkpoint()), "not yet");
  while (w.at(kA).chain.size() < kDepthMax) {
    const uint32_t policy = 1 + w.at(kA).chain.title().start_after % 2;
    w.add(kA, *w.judge(kA).may_set_policy(policy, true));
  }
  EXPECT_EQ(name_of(w.judge(kA).may_set_policy(9, true)), "too deep");
  EXPECT_EQ(leads_on(w.judge(kA).may_set_policy(9, true)), "checkpoint");
  EXPECT_EQ(name_of(w.judge(kA).may_end(kStill)), "too deep");
  EXPECT_TRUE(Chain::decode(w.at(kA).chain.encode(), kA).ok());
}

}  // namespace
}  // namespace hf::title
