// Chains of random acts, each allowed by the judge and signed by an honest site: whatever order
// they are learned in, every site ends with the same statements at the end of its lines, and where
// those are settled with one head.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "title/testing/hostile.h"
#include "title/testing/refusals.h"

namespace hf::title {
namespace {

using testing::ask_in_vain;
using testing::kA;
using testing::kB;
using testing::kC;
using testing::kStill;
using testing::own;
using testing::site;
using testing::TestWorld;

struct History {
  explicit History(uint64_t seed) : random(seed) {
    all.push_back(w.at(kA).chain.head());
    w.protect(kB);
    all = w.at(kA).chain.statements();
  }
  size_t below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random); }
  SiteId any() { return site(static_cast<int>(below(3)) + 1); }

  bool add(const SiteId& id, const Judged<Statement>& next) {
    if (next) all.push_back(w.add(id, *next));
    return next.has_value();
  }
  void share(const SiteId& from, const SiteId& to) {
    if (w.at(from).chain.empty()) return;
    w.share(from, to);
    w.at(to).asking.head_changed(w.at(to).chain);
  }
  // Words that are true and words that are mistaken.
  void on_a_word(const SiteId& by) {
    w.pass(10);
    std::vector<SiteId> silent;
    for (const Member& member : w.at(by).chain.title().members.all()) {
      if (member.site == by) continue;
      ask_in_vain(w, by, member.site);
      silent.push_back(member.site);
    }
    const Word take = w.word(by, Act::kTake, WordKind::kSourceIsOff, silent);
    const Word on = w.word(by, Act::kGoOn, WordKind::kWithoutPeer, silent);
    const Word over = w.word(by, Act::kTakeOver, WordKind::kLostForGood, silent);
    (void)(add(by, w.judge(by).may_take(own(5), &take, 0)) ||
           add(by, w.judge(by).may_go_on(own(5), &on)) ||
           (below(4) == 0 && add(by, w.judge(by).may_take_over(own(5), &over))));
  }
  void settle(const SiteId& by) {
    for (int p = 1; p <= 3; ++p) {
      if (site(p) != by) w.ask(by, site(p), 5);
    }
    (void)(add(by, w.judge(by).may_join(own(5))) || add(by, w.judge(by).may_give_up(kStill)));
  }
  void take_over(const SiteId& by) {
    w.pass(10);
    std::vector<SiteId> silent;
    for (int p = 1; p <= 3; ++p) {
      if (site(p) == by) continue;
      ask_in_vain(w, by, site(p));
      silent.push_back(site(p));
    }
    const Word over = w.word(by, Act::kTakeOver, WordKind::kLostForGood, silent);
    (void)add(by, w.judge(by).may_take_over(own(5), &over));
  }
  void step() {
    const SiteId by = any();
    const SiteId other = any();
    if (by != other && below(2) == 0) share(other, by);
    if (w.at(by).chain.empty()) return;
    if (by == other) return on_a_word(by);
    if (below(3) == 0) return settle(by);
    w.ask(by, other, 5);
    const Judge judge = w.judge(by);
    switch (below(5)) {
      case 0:
        add(by, judge.may_protect(other));
        return;
      case 1:
        add(by, judge.may_stand_by(other, own(5)));
        return;
      case 2:
        add(by, judge.may_resign());
        return;
      case 3:
        add(by, judge.may_set_policy(static_cast<uint32_t>(below(4)), true));
        return;
      default:
        add(by, judge.may_hand_over(other, own(5), kStill, nullptr));
        return;
    }
  }
  // The commands that refusals name, by hand: bounded, or the test fails.
  bool settled() {
    for (int round = 0; round < 40; ++round) {
      for (int from = 1; from <= 3; ++from) {
        for (int to = 1; to <= 3; ++to) share(site(from), site(to));
      }
      bool one = true;
      for (int s = 2; s <= 3; ++s) {
        one &= w.at(site(s)).chain.digest() == w.at(kA).chain.digest();
      }
      for (int s = 1; s <= 3; ++s) one &= !w.at(site(s)).chain.has_rivals();
      if (one) return true;
      // Where giving up is refused, its refusal names this: the other side was expelled. By one
      // operator, who lets it spread.
      if (round >= 10 && round % 5 == 0) take_over(kA);
      for (int s = 1; s <= 3; ++s) {
        if (w.at(site(s)).chain.has_rivals()) settle(site(s));
      }
    }
    return false;
  }

  TestWorld w;
  std::vector<SignedPtr> all;
  std::mt19937_64 random;
};

std::set<Digest> ends_of(const std::vector<SignedPtr>& all) {
  std::set<Digest> ends;
  for (const SignedPtr& s : all) ends.insert(s->digest());
  for (const SignedPtr& s : all) {
    ends.erase(s->statement().follows);
    ends.erase(s->statement().beside);
  }
  return ends;
}
std::set<Digest> ends_of(const Chain& chain) {
  std::set<Digest> ends{chain.digest()};
  for (const SignedPtr& rival : chain.rivals()) ends.insert(rival->digest());
  return ends;
}

// What a site that was nowhere knows when it has heard all of it in that order, late ones again.
Chain learned(History& history) {
  Chain chain(history.w.at(kA).chain.vm(), site(9));
  std::ranges::shuffle(history.all, history.random);
  for (bool more = true; more;) {
    more = false;
    for (size_t at = 0; at < history.all.size();) {
      const size_t count = std::min(history.all.size() - at, 1 + history.below(4));
      const auto some = std::span(history.all).subspan(at, count);
      more |=
          chain.learn(some, history.any(), history.w.verifier, history.w.now, Micros(0)).changed();
      at += count;
    }
  }
  return chain;
}

TEST(ChainProperty, in_whatever_order_it_is_learned_the_ends_are_the_same) {
  size_t conflicts = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    History history(seed);
    for (int step = 0; step < 40; ++step) history.step();
    const auto ends = ends_of(history.all);
    conflicts += ends.size() > 1;
    for (int order = 0; order < 3; ++order) {
      const Chain chain = learned(history);
      ASSERT_EQ(ends_of(chain), ends) << "seed " << seed;
      ASSERT_FALSE(chain.verify(history.w.verifier).has_value());
      const auto again = Chain::decode(chain.encode(), chain.self());
      ASSERT_TRUE(again.ok());
      ASSERT_EQ(ends_of(*again), ends);
    }
  }
  EXPECT_GT(conflicts, 50U);
}

TEST(ChainProperty, settled_it_is_one_head_everywhere_and_follows_all_that_was_signed) {
  for (uint64_t seed = 1000; seed < 1200; ++seed) {
    History history(seed);
    for (int step = 0; step < 30; ++step) history.step();
    ASSERT_TRUE(history.settled()) << "seed " << seed;
    const Chain& a = history.w.at(kA).chain;
    for (const SignedPtr& s : history.all) {
      ASSERT_TRUE(a.follows(a.digest(), s->digest())) << "seed " << seed;
    }
    for (int order = 0; order < 3; ++order) {
      const Chain chain = learned(history);
      ASSERT_EQ(chain.digest(), a.digest()) << "seed " << seed;
      ASSERT_FALSE(chain.has_rivals());
    }
  }
}

// learn_fuzz.cpp goes on from where this stops.
TEST(ChainProperty, members_that_sign_whatever_they_like_abort_nothing) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 1000; ++round) {
    Bytes steering(600);
    for (std::byte& b : steering) b = static_cast<std::byte>(random());
    testing::Hostile(steering).run();
  }
}

}  // namespace
}  // namespace hf::title
