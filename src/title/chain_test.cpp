#include "title/chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "title/testing/world.h"

namespace hf::title {
namespace {

using ::testing::ElementsAre;
using testing::kA;
using testing::kB;
using testing::kC;
using testing::KeyedSigner;
using testing::own;
using testing::TestWorld;

Cause cause_of(const Learned& learned) {
  EXPECT_EQ(learned.last, Outcome::kRefused);
  return learned.refused.empty() ? Cause::kNoTitle : learned.refused.back().cause;
}

Statement after(const Chain& chain, const SiteId& issuer, Kind kind) {
  Statement s = chain.title();
  s.kind = kind;
  s.vm = chain.vm();
  s.follows = chain.digest();
  s.beside = {};
  s.issuer = issuer;
  s.origin = {};
  s.word = WordKind::kNone;
  return s;
}
SignedPtr by(const Statement& s) { return Signed::sign(s, KeyedSigner(s.issuer)); }

TEST(Chain, its_vm_is_named_by_the_digest_of_its_create) {
  TestWorld w;
  const auto all = w.at(kA).chain.statements();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(all[0]->digest().span().first(16), w.at(kA).chain.vm().span()));
  Digest other;
  other.bytes[0] = std::byte{2};
  const auto foreign = by(make_create(kB, other, 0, Micros(1)));
  EXPECT_EQ(cause_of(w.tell(kB, {{foreign}}, kB)), Cause::kForeignCreate);
  EXPECT_EQ(cause_of(w.tell(kA, {{foreign}}, kB)), Cause::kForeignCreate);
  EXPECT_EQ(w.share(kA, kB).last, Outcome::kHead);
}

TEST(Chain, what_follows_the_head_becomes_it_and_fences_who_held_it) {
  TestWorld w;
  w.protect(kB);
  const Digest before = w.at(kA).chain.digest();
  w.take(kB, {kA});
  const Learned learned = w.share(kB, kA);
  EXPECT_TRUE(learned.head_changed);
  EXPECT_TRUE(learned.fence);
  EXPECT_FALSE(learned.doubt);
  EXPECT_TRUE(w.at(kA).chain.follows(w.at(kA).chain.digest(), before));
  EXPECT_EQ(w.share(kB, kA).last, Outcome::kOld);
  EXPECT_FALSE(w.share(kB, kA).changed());
}

TEST(Chain, ancestry_decides_and_never_a_number) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});  // epoch 2
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  const Learned learned = w.share(kB, kA);
  EXPECT_EQ(learned.last, Outcome::kRival);
  EXPECT_FALSE(learned.fence);
  EXPECT_TRUE(w.at(kA).chain.holder_is(kA));
}

// Two lines that together name more sites than a title has room for: nobody is left out unasked.
TEST(Chain, rivals_with_more_members_than_a_title_holds_are_not_joined) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});
  const auto protect = [&](const SiteId& by, int number) {
    Statement s = after(w.at(by).chain, by, Kind::kProtect);
    s.members = s.members.with(testing::site(number), Standing::kBeingSeeded);
    w.add(by, s);
  };
  protect(kB, 99);
  for (int number = 10; !w.at(kA).chain.title().members.full(); ++number) protect(kA, number);
  w.share(kB, kA);
  w.share(kA, kB);
  ASSERT_TRUE(w.at(kA).chain.has_rivals() && w.at(kB).chain.has_rivals());
  w.ask(kA, kB, 5);
  const auto given = w.judge(kA).may_give_up(testing::kStill);
  ASSERT_FALSE(given.has_value());
  EXPECT_EQ(given.error().cause, Cause::kTooManyMembers);
  // Nor is it taken from a site that signs it all the same.
  const auto rival = w.at(kA).chain.rivals().front();
  Statement s = after(w.at(kA).chain, kA, Kind::kGiveUp);
  s.beside = rival->digest();
  s.holder = kB;
  s.epoch = s.epoch.next();
  s.line = testing::line(5);
  s.members = w.at(kA)
                  .chain.before_joining(rival)
                  .merged.with(kA, Standing::kStandby)
                  .with(kB, Standing::kMember);
  EXPECT_EQ(cause_of(w.tell(kB, {{by(s)}}, kA)), Cause::kTooManyMembers);
}

TEST(Chain, an_unknown_ancestor_is_wanted_and_nothing_is_kept) {
  TestWorld w;
  w.protect(kB);
  const auto all = w.at(kA).chain.statements();
  const Learned learned = w.tell(kC, {{all.back()}}, kA);
  EXPECT_EQ(learned.last, Outcome::kUnknown);
  EXPECT_THAT(learned.wanted, ElementsAre(all.back()->statement().follows));
  EXPECT_EQ(w.at(kC).chain.size(), 0U);
  EXPECT_EQ(w.share(kA, kC).last, Outcome::kHead);
}

TEST(Chain, forged_unknown_and_foreign_statements_are_refused_by_name) {
  TestWorld w;
  w.protect(kB);
  Statement s = after(w.at(kA).chain, kA, Kind::kPolicy);
  s.start_after = 60;
  Bytes bytes = by(s)->encode();
  bytes.back() ^= std::byte{1};
  EXPECT_EQ(cause_of(w.tell(kB, {{*Signed::decode(bytes)}}, kA)), Cause::kBadSignature);
  const Ed25519Verifier nobody;
  const auto honest = by(s);
  EXPECT_EQ(cause_of(w.at(kB).chain.learn({{honest}}, kA, nobody, w.now, Micros(0))),
            Cause::kUnknownIssuer);
  s.vm.bytes[0] ^= std::byte{1};
  EXPECT_EQ(cause_of(w.tell(kB, {{by(s)}}, kA)), Cause::kForeignVm);
}

TEST(Chain, only_who_is_entitled_may_change_what_its_kind_changes) {
  TestWorld w;
  w.protect(kB);
  const Chain& chain = w.at(kA).chain;
  const auto refused = [&](const SiteId& issuer, Kind kind, auto change) {
    Statement s = after(chain, issuer, kind);
    change(s);
    EXPECT_EQ(out_of_form(s), nullptr);
    return cause_of(w.tell(kB, {{by(s)}}, issuer));
  };
  const auto nothing = [](Statement&) {};
  EXPECT_EQ(refused(kC, Kind::kResign, nothing), Cause::kNotEntitled);
  EXPECT_EQ(refused(kB, Kind::kCheckpoint, nothing), Cause::kNotEntitled);
  EXPECT_EQ(refused(kB, Kind::kPolicy, [](Statement& s) { s.start_after = 9; }),
            Cause::kNotEntitled);
  EXPECT_EQ(refused(kA, Kind::kPolicy, nothing), Cause::kWrongPolicy);
  EXPECT_EQ(refused(kA, Kind::kCheckpoint, [](Statement& s) { s.start_after = 9; }),
            Cause::kWrongPolicy);
  EXPECT_EQ(refused(kA, Kind::kCheckpoint, [](Statement& s) { s.epoch = Epoch(2); }),
            Cause::kWrongEpoch);
  EXPECT_EQ(refused(kA, Kind::kCheckpoint, [](Statement& s) { s.line = testing::line(9); }),
            Cause::kWrongLine);
  EXPECT_EQ(refused(kA, Kind::kProtect, nothing), Cause::kWrongMembers);
  EXPECT_EQ(refused(kA, Kind::kStandBy, nothing), Cause::kWrongMembers);
  EXPECT_EQ(refused(kA, Kind::kProtect,
                    [](Statement& s) { s.members = s.members.with(kC, Standing::kStandby); }),
            Cause::kWrongMembers);
  EXPECT_EQ(refused(kB, Kind::kResign, nothing), Cause::kWrongMembers);
  const auto to_c = [](Statement& s) {
    s.members = s.members.with(kC, Standing::kMember);
    s.holder = kC;
  };
  EXPECT_EQ(refused(kA, Kind::kHandOver, to_c), Cause::kWrongMembers);
  EXPECT_EQ(refused(kB, Kind::kHandOver, to_c), Cause::kNotEntitled);
  const auto take = [](Statement& s) {
    s.word = WordKind::kSourceIsOff;
    s.holder = s.issuer;
    s.members = s.members.with(s.issuer, Standing::kMember);
  };
  EXPECT_EQ(refused(kC, Kind::kTake, take), Cause::kNotEntitled);
  EXPECT_EQ(refused(kA, Kind::kTake, take), Cause::kNotEntitled);
  EXPECT_EQ(refused(kB, Kind::kTake, take), Cause::kWrongEpoch);
  EXPECT_EQ(refused(kB, Kind::kTake,
                    [&](Statement& s) {
                      take(s);
                      s.word = WordKind::kNone;
                      s.epoch = Epoch(2);
                    }),
            Cause::kNotEntitled);
  EXPECT_EQ(refused(kB, Kind::kGoOn, [](Statement& s) { s.word = WordKind::kWithoutPeer; }),
            Cause::kNotEntitled);
}

TEST(Chain, one_rival_an_issuer_is_kept_and_a_hundred_thousand_cost_nothing) {
  TestWorld w;
  w.protect(kB);
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  Statement s = after(w.at(kB).chain, kB, Kind::kTake);
  s.word = WordKind::kSourceIsOff;
  s.holder = kB;
  s.epoch = Epoch(2);
  s.members = s.members.with(kB, Standing::kMember);
  std::vector<SignedPtr> some;
  for (uint64_t i = 0; i < 1000; ++i) {
    s.time = Micros(i);
    some.push_back(by(s));
  }
  EXPECT_EQ(w.tell(kA, std::span(some).first(1), kB).last, Outcome::kRival);
  size_t too_fast = 0;
  for (size_t round = 0; round < 100'000; round += 100) {
    const auto part = std::span(some).subspan(round % 900 + 1, 99);
    for (const auto& refused : w.tell(kA, part, kB).refused) {
      EXPECT_TRUE(refused.cause == Cause::kRivalOfIssuer || refused.cause == Cause::kTooFast);
      too_fast += refused.cause == Cause::kTooFast;
    }
  }
  EXPECT_GT(too_fast, 90'000U);
  EXPECT_EQ(w.at(kA).chain.rivals().size(), 1U);
  EXPECT_LT(w.at(kA).chain.size(), 6U);
  EXPECT_TRUE(w.at(kA).chain.holder_is(kA));
  // Whoever else sends is not held up; nor, later, is it.
  Statement resign = after(w.at(kB).chain, kB, Kind::kResign);
  resign.members = resign.members.with(kB, Standing::kMember);
  EXPECT_EQ(cause_of(w.tell(kA, {{by(resign)}}, kC)), Cause::kRivalOfIssuer);
}

TEST(Chain, who_was_expelled_is_refused_but_where_it_follows_that) {
  TestWorld w;
  w.protect(kB);
  w.pass(10);
  const Word lost = w.word(kA, Act::kExpel, WordKind::kLostForGood, {kB});
  w.add(kA, *w.judge(kA).may_expel(kB, &lost));
  w.take(kB, {kA});
  const auto take = w.at(kB).chain.head();
  EXPECT_EQ(cause_of(w.tell(kA, {{take}}, kB)), Cause::kExpelled);
  EXPECT_FALSE(w.at(kA).chain.has_rivals());
  EXPECT_EQ(w.share(kA, kB).last, Outcome::kRival);
  EXPECT_TRUE(w.judge(kB).may_let_go().has_value());
  // It gives up: that follows both, so the take comes in as its ancestor; B stays out.
  w.ask(kB, kA, 5);
  w.add(kB, *w.judge(kB).may_give_up(testing::kStill));
  const Learned learned = w.share(kB, kA);
  EXPECT_EQ(learned.last, Outcome::kHead);
  EXPECT_TRUE(w.at(kA).chain.holder_is(kA));
  EXPECT_FALSE(w.at(kA).chain.title().names(kB));
  EXPECT_NE(w.at(kA).chain.find(take->digest()), nullptr);
}

TEST(Chain, a_statement_of_its_own_that_it_lacks_puts_a_vault_in_doubt) {
  TestWorld w;
  w.protect(kB);
  const Chain yesterday = w.at(kA).chain;
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kA, kB);
  w.at(kA).chain = yesterday;
  EXPECT_TRUE(w.share(kB, kA).doubt);
  EXPECT_TRUE(w.at(kA).chain.in_doubt());
  EXPECT_EQ(w.judge(kA).may_set_policy(120, true).error().cause, Cause::kInDoubt);
  EXPECT_EQ(w.judge(kA).may_release().error().cause, Cause::kInDoubt);
  EXPECT_EQ(w.judge(kA).may_settle_doubt(nullptr).error(),
            (Refused{Cause::kNotAnswered, Action::kAsk, kB}));
  w.ask(kA, kB, 5);
  EXPECT_TRUE(w.judge(kA).may_settle_doubt(nullptr).has_value());
  // It outlives a restart.
  const auto again = Chain::decode(w.at(kA).chain.encode(), kA);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->in_doubt());
}

TEST(Chain, is_stored_and_comes_back_with_its_rivals) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kB, kA);
  const Bytes bytes = w.at(kA).chain.encode();
  const auto again = Chain::decode(bytes, kA);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->digest(), w.at(kA).chain.digest());
  EXPECT_EQ(again->rivals().size(), 1U);
  EXPECT_EQ(again->encode(), bytes);
  EXPECT_FALSE(again->verify(w.verifier).has_value());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Chain::decode(ByteSpan(bytes).first(size), kA).ok()) << size;
  }
  Bytes many = bytes;
  store_le(many.data() + 64, ~uint32_t{0});
  EXPECT_FALSE(Chain::decode(many, kA).ok());
}

TEST(Chain, bundles_are_bounded_and_whole_only) {
  TestWorld w;
  w.protect(kB);
  const auto all = w.at(kA).chain.statements();
  const Bytes bytes = encode_bundle(all);
  const auto again = decode_bundle(bytes);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->size(), all.size());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_bundle(ByteSpan(bytes).first(size)).ok()) << size;
  }
  Bytes many = bytes;
  store_le(many.data() + 8, ~uint32_t{0});
  EXPECT_FALSE(decode_bundle(many).ok());
  const std::vector<SignedPtr> too_many(kBundleMax + 1, all[0]);
  EXPECT_EQ(cause_of(w.tell(kB, too_many, kA)), Cause::kTooManyAtOnce);
}

TEST(Chain, an_issuer_that_goes_on_and_on_leaves_room_for_whoever_takes_it_back) {
  TestWorld w;
  w.protect(kB);
  Chain mine = w.at(kA).chain;
  uint32_t policy = 0;
  while (true) {
    Statement s = after(w.at(kA).chain, kA, Kind::kPolicy);
    s.start_after = ++policy;
    const auto next = by(s);
    w.at(kA).chain.add_own(next, Micros(1));
    if (w.tell(kB, {{next}}, kA).last == Outcome::kRefused) break;
  }
  EXPECT_EQ(w.at(kB).chain.size(), kDepthMax);
  w.take(kB, {kA});
  EXPECT_TRUE(w.at(kB).chain.holder_is(kB));
}

// A site that was away for long comes back to a long line of the other's, and has signed since they
// parted: that is a conflict like any other, and is settled like one.
TEST(Chain, a_fork_of_many_statements_is_learned_and_settled) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  for (uint32_t i = 0; i < 400; ++i) w.add(kB, *w.judge(kB).may_set_policy(1 + i % 2, true));
  const auto learn_all = [&](const SiteId& from, const SiteId& to) {
    for (int round = 0; round < 6; ++round) {
      std::vector<Digest> known = w.at(to).chain.ancestors();
      known.push_back(w.at(to).chain.digest());
      for (const SignedPtr& rival : w.at(to).chain.rivals()) known.push_back(rival->digest());
      const auto part = w.at(from).chain.lacking(known);
      if (part.empty()) break;
      w.tell(to, part, from);
    }
  };
  learn_all(kB, kA);
  learn_all(kA, kB);
  ASSERT_EQ(w.at(kA).chain.rivals().size(), 1U);
  EXPECT_EQ(w.at(kA).chain.rivals()[0]->digest(), w.at(kB).chain.digest());
  ASSERT_EQ(w.at(kB).chain.rivals().size(), 1U);
  w.ask(kA, kB, 5);
  w.add(kA, *w.judge(kA).may_give_up(testing::kStill));
  learn_all(kA, kB);
  EXPECT_EQ(w.at(kB).chain.digest(), w.at(kA).chain.digest());
  EXPECT_TRUE(w.at(kB).chain.holder_is(kB));
  EXPECT_FALSE(w.at(kB).chain.has_rivals());
}

// Both have signed since they parted, and what they share alone is more than fits one message.
TEST(Chain, two_that_parted_after_a_long_time_find_where) {
  TestWorld w;
  w.protect(kB);
  for (uint32_t i = 0; i < 2 * kBundleMax; ++i) {
    const auto next = w.add(kA, *w.judge(kA).may_set_policy(1 + i % 2, true));
    w.tell(kB, {{next}}, kA);
  }
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  std::vector<Digest> known = w.at(kA).chain.ancestors();
  known.push_back(w.at(kA).chain.digest());
  const auto part = w.at(kB).chain.lacking(known);
  EXPECT_LE(part.size(), kAncestorsMax);
  EXPECT_EQ(w.tell(kA, part, kB).last, Outcome::kRival);
  EXPECT_LE(w.at(kA).chain.ancestors().size(), kAncestorsMax);
}

// What a member signs beside the holder's line takes no room from that.
TEST(Chain, forks_leave_the_holders_line_its_room) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  ASSERT_EQ(w.share(kB, kA).last, Outcome::kRival);
  while (w.at(kA).chain.size() < kDepthMax) {
    Statement s = after(w.at(kA).chain, kA, Kind::kPolicy);
    s.start_after = 1 + static_cast<uint32_t>(w.at(kA).chain.size() % 2);
    w.at(kA).chain.add_own(by(s), Micros(1));
  }
  const size_t size = w.at(kA).chain.size();
  for (uint32_t i = 1; i < 2 * kForkMax; ++i) {
    Statement s = after(w.at(kB).chain, kB, Kind::kPolicy);
    s.start_after = 1 + i % 2;
    const auto next = by(s);
    w.at(kB).chain.add_own(next, Micros(1));
    if (w.tell(kA, {{next}}, kB).last == Outcome::kRefused) break;
  }
  EXPECT_EQ(w.at(kA).chain.size(), size + kForkMax - 1);
  EXPECT_TRUE(Chain::decode(w.at(kA).chain.encode(), kA).ok());
  Statement s = after(w.at(kA).chain, kA, Kind::kPolicy);
  s.start_after = 90;
  EXPECT_TRUE(w.at(kA).chain.has_room_for(s));
}

// A fork that is longer than anyone makes it is not kept, nor what it would cost.
TEST(Chain, a_rival_of_many_statements_is_bounded) {
  TestWorld w;
  w.protect(kB);
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  for (uint32_t i = 0; i < kForkMax + 40; ++i) {
    w.add(kB, *w.judge(kB).may_set_policy(1 + i % 2, true));
  }
  const auto all = w.at(kB).chain.statements();
  for (size_t at = 0; at + kBundleMax <= kForkMax; at += kBundleMax) {
    EXPECT_EQ(w.tell(kA, std::span(all).subspan(at, kBundleMax), kB).last, Outcome::kRival);
  }
  EXPECT_EQ(cause_of(w.tell(kA, std::span(all).subspan(kForkMax), kB)), Cause::kTooManyRivals);
  EXPECT_LE(w.at(kA).chain.size(), kForkMax + 8);
  EXPECT_TRUE(w.at(kA).chain.holder_is(kA));
  // Nor is that the end: who signs so much is distrusted, and what is not known of it counts no
  // more.
  const Word distrusted = w.word(kA, Act::kDistrust, WordKind::kDistrusted, {kB});
  w.add(kA, *w.judge(kA).may_expel(kB, &distrusted));
  EXPECT_FALSE(w.at(kA).chain.has_rivals());
  const auto next = std::ranges::find_if(
      all, [&](const SignedPtr& one) { return !w.at(kA).chain.find(one->digest()); });
  ASSERT_NE(next, all.end());
  EXPECT_EQ(cause_of(w.tell(kA, {{*next}}, kB)), Cause::kExpelled);
}

TEST(Chain, what_is_lacking_comes_in_bounded_parts_and_leads_to_the_whole) {
  TestWorld w;
  w.protect(kB);
  for (uint32_t i = 0; i < 2 * kBundleMax; ++i) {
    w.add(kA, *w.judge(kA).may_set_policy(1 + i % 2, true));
  }
  int rounds = 0;
  while (w.at(kC).chain.empty() || w.at(kC).chain.digest() != w.at(kA).chain.digest()) {
    std::vector<Digest> known;
    if (!w.at(kC).chain.empty()) known.push_back(w.at(kC).chain.digest());
    const auto part = w.at(kA).chain.lacking(known);
    ASSERT_LE(part.size(), kBundleMax);
    w.tell(kC, part, kA);
    ASSERT_LE(++rounds, 3);
  }
}

TEST(Chain, sites_exchange_it_where_either_head_names_the_other) {
  TestWorld w;
  const Statement alone = w.at(kA).chain.title();
  w.ask(kA, kB);
  w.add(kA, *w.judge(kA).may_protect(kB));
  const Statement named = w.at(kA).chain.title();
  EXPECT_TRUE(may_exchange(named, kA, alone, kB));
  EXPECT_TRUE(may_exchange(alone, kB, named, kA));
  EXPECT_FALSE(may_exchange(named, kA, make_create(kC, Digest{}, 0, Micros(1)), kC));
}

TEST(Chain, of_wanted_ancestors_only_so_many_are_named) {
  TestWorld w;
  w.protect(kB);
  Statement s = after(w.at(kA).chain, kA, Kind::kPolicy);
  s.start_after = 60;
  std::vector<SignedPtr> many;
  for (uint8_t i = 0; i < 200; ++i) {
    s.follows.bytes[0] = std::byte{i};
    many.push_back(by(s));
  }
  const Learned learned = w.tell(kB, many, kA);
  EXPECT_EQ(learned.last, Outcome::kUnknown);
  EXPECT_EQ(learned.wanted.size(), kWantedMax);
  EXPECT_LT(w.at(kB).chain.size(), 5U);
}

TEST(Chain, a_stored_title_whose_rivals_are_out_of_order_is_refused) {
  TestWorld w;
  w.protect(kB);
  w.protect(kC);
  w.share(kA, kB);
  w.take(kB, {kA, kC});
  w.take(kC, {kA, kB});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kB, kA);
  w.share(kC, kA);
  ASSERT_EQ(w.at(kA).chain.rivals().size(), 2U);
  Bytes bytes = w.at(kA).chain.encode();
  ASSERT_TRUE(Chain::decode(bytes, kA).ok());
  std::swap_ranges(bytes.begin() + 72, bytes.begin() + 104, bytes.begin() + 104);
  EXPECT_FALSE(Chain::decode(bytes, kA).ok());
  std::copy_n(bytes.begin() + 72, 32, bytes.begin() + 104);  // the same twice
  EXPECT_FALSE(Chain::decode(bytes, kA).ok());
}

}  // namespace
}  // namespace hf::title
