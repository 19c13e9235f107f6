// Row by row: what is there, and the effect that follows. That whole worlds end well is the
// simulator's to show (sim/lifecycle).
#include "lifecycle/machine.h"

#include <gmock/gmock.h>

#include <map>
#include <random>
#include <set>

#include "title/testing/world.h"

namespace hf::lifecycle {
namespace {

using title::testing::kA;
using title::testing::kB;
using title::testing::kC;

// The titles that a VM of A's can have.
struct Titles {
  title::testing::TestWorld world;
  title::SignedPtr created = world.at(kA).chain.head();
  title::SignedPtr seeded, stands_by, handed_over, taken;
  title::SignedPtr resigned;  // beside stands_by: B's, of before it knew
  title::SignedPtr joined;
  Titles() {
    world.ask(kA, kB);
    seeded = world.add(kA, *world.judge(kA).may_protect(kB));
    world.share(kA, kB);
    title::testing::TestWorld crossing = world;
    crossing.ask(kA, kB, 5);
    crossing.add(kA, *crossing.judge(kA).may_stand_by(kB, title::testing::own(5)));
    resigned = crossing.add(kB, *crossing.judge(kB).may_resign());
    crossing.share(kB, kA);
    joined = crossing.add(kA, *crossing.judge(kA).may_join(title::testing::own(5)));
    world.ask(kA, kB, 5);
    stands_by = world.add(kA, *world.judge(kA).may_stand_by(kB, title::testing::own(5)));
    world.share(kA, kB);
    title::testing::TestWorld other = world;
    world.ask(kA, kB, 5);
    handed_over = world.add(kA, *world.judge(kA).may_hand_over(kB, title::testing::own(5),
                                                               title::testing::kStill, nullptr));
    other.take(kB, {kA});
    taken = other.at(kB).chain.head();
  }
};
const Titles& titles() {
  static const Titles all;
  return all;
}

Observed holder(const title::SignedPtr& head = titles().stands_by) {
  return {.self = kA,
          .now = title::Instant(1000 * title::kSecond),
          .title = {.head = head},
          .record = {.role = Role::kActive, .epoch = Epoch(1), .wanted = true},
          .protection = Protection{.peer = kB},
          .units = {.guest = true, .keeper = true},
          .peer_connected = true,
          .peer_knows = true,
          .stream = true};
}
Observed standby(const title::SignedPtr& head = titles().stands_by) {
  Observed seen = holder(head);
  seen.self = kB;
  seen.record = {.role = Role::kStandby, .epoch = Epoch(1)};
  seen.protection = Protection{.peer = kA, .way = Way::kIn};
  seen.units = {.replica = true};
  seen.replica = Replica{};
  seen.stream = false;
  return seen;
}

std::string name(const Step& step) {
  switch (step.what) {
    case Step::What::kEffect:
      return std::string(to_string(step.effect));
    case Step::What::kDone:
      return "done " + std::to_string(static_cast<int>(step.done));
    case Step::What::kRefused:
      return "refused " + std::to_string(static_cast<int>(step.refusal));
  }
  return "?";
}
std::string done(Done how) { return "done " + std::to_string(static_cast<int>(how)); }
std::string refused(Refusal why) { return "refused " + std::to_string(static_cast<int>(why)); }

// Carries every effect out on what is observed, as a site would on which nothing fails.
struct Site {
  Observed seen;
  Machine machine;
  std::vector<std::string> did;
  std::set<Effect> fail;       // definitely
  std::set<Effect> late;       // by time
  title::SignedPtr signs;      // what kSign makes the head
  title::SignedPtr hand_over;  // what the holder's answer brings
  Ended said{.whole = true, .prepared = true, .holds = true};

  std::string run() {
    for (int i = 0; i < 100; ++i) {
      const Step step = machine.next(seen);
      if (step.what != Step::What::kEffect) return name(step);
      did.push_back(name(step));
      Ended ended = said;
      if (fail.contains(step.effect)) ended.trouble = Trouble::kRefused;
      if (late.contains(step.effect)) ended.trouble = Trouble::kTime;
      if (ended.trouble == Trouble::kNone) apply(step.effect);
      machine.ended(step, ended, seen);
      seen.now.value += title::kSecond / 2;
    }
    return "no end";
  }
  void apply(Effect effect) {
    switch (effect) {
      case Effect::kSign:
        seen.title.head = signs;
        seen.title.rivals.clear();
        seen.peer_knows = false;
        break;
      case Effect::kExchange:
        seen.peer_knows = true;
        break;
      case Effect::kAskHandOver:
        if (hand_over != nullptr) seen.title.head = hand_over;
        break;
      case Effect::kStoreSuperseded:
        seen.record.role = Role::kSuperseded;
        seen.record.epoch = seen.title.head->statement().epoch;
        break;
      case Effect::kStoreTaken:
        seen.record = {.role = Role::kActive,
                       .epoch = seen.title.head->statement().epoch,
                       .wanted = true,
                       .adopt = true};
        if (seen.title.stands_by(seen.protection->peer)) {
          seen.protection->way = Way::kOut;
        } else {
          seen.protection.reset();
        }
        break;
      case Effect::kStoreStandby:
        seen.record.role = Role::kStandby;
        seen.protection = Protection{.peer = seen.title.head->statement().holder, .way = Way::kIn};
        break;
      case Effect::kStoreWanted:
      case Effect::kStoreNotWanted:
        seen.record.wanted = effect == Effect::kStoreWanted;
        break;
      case Effect::kStoreOffered:
        seen.protection = Protection{.peer = kB, .state = Protected::kOffered};
        break;
      case Effect::kStoreProtected:
        seen.protection->state = Protected::kStands;
        break;
      case Effect::kStoreWithdrawing:
        seen.protection->state = Protected::kWithdrawing;
        break;
      case Effect::kForgetProtection:
        seen.protection.reset();
        break;
      case Effect::kFence:
      case Effect::kKillGuest:
      case Effect::kStopGuest:
        seen.units.guest = false;
        break;
      case Effect::kEndKeeper:
        seen.units.keeper = false;
        break;
      case Effect::kStartReplica:
      case Effect::kReopenReplica:
        seen.units.replica = true;
        seen.replica = Replica{};
        break;
      case Effect::kSealReplica:
      case Effect::kUnsealReplica:
        seen.replica->sealed = effect == Effect::kSealReplica;
        break;
      case Effect::kEndReplica:
        seen.units.replica = false;
        seen.replica.reset();
        break;
      case Effect::kStartKeeper:
        seen.units.keeper = true;
        break;
      case Effect::kAdopt:
        seen.record.adopt = false;
        break;
      case Effect::kStartGuest:
        seen.units.guest = true;
        break;
      case Effect::kStartStream:
      case Effect::kEndStream:
        seen.stream = effect == Effect::kStartStream;
        break;
      default:
        break;
    }
  }
};

using testing::ElementsAre;

TEST(HandOver, in_the_order_of_what_is_durable) {
  Site a{.seen = holder(),
         .machine = Machine({.act = Act::kHandOver, .peer = kB}),
         .signs = titles().handed_over};
  EXPECT_EQ(a.run(), done(Done::kHandedOver));
  EXPECT_THAT(a.did, ElementsAre("exchange", "kill-guest", "end-keeper", "ship-tail", "exchange",
                                 "sign", "store-not-wanted"));
}

TEST(HandOver, asked_again_says_the_same_and_finishes_what_was_cut_off) {
  Site a{.seen = holder(titles().handed_over),
         .machine = Machine({.act = Act::kHandOver, .peer = kB})};
  a.seen.units = {};
  EXPECT_EQ(a.run(), done(Done::kHandedOver));
  EXPECT_THAT(a.did, ElementsAre("store-not-wanted"));
}

TEST(HandOver, nothing_stops_for_a_taker_that_could_not) {
  for (const auto& [said, late, why] : std::vector<std::tuple<Ended, std::set<Effect>, Refusal>>{
           {{.whole = true}, {}, Refusal::kNotPrepared},
           {{}, {Effect::kExchange}, Refusal::kPeerSilent}}) {
    Site a{.seen = holder(), .machine = Machine({.act = Act::kHandOver, .peer = kB})};
    a.said = said;
    a.late = late;
    EXPECT_EQ(a.run(), refused(why));
    EXPECT_THAT(a.did, ElementsAre("exchange"));
    EXPECT_TRUE(a.seen.units.guest);
  }
  Site a{.seen = holder(titles().seeded), .machine = Machine({.act = Act::kHandOver, .peer = kB})};
  EXPECT_EQ(a.run(), refused(Refusal::kNoStandby));
  EXPECT_TRUE(a.did.empty());
}

TEST(HandOver, taken_back_when_it_is_not_signed) {
  const auto last = [](Effect failing, bool by_time) {
    Site a{.seen = holder(), .machine = Machine({.act = Act::kHandOver, .peer = kB})};
    (by_time ? a.late : a.fail).insert(failing);
    const std::string how = a.run();
    EXPECT_EQ(a.did.back(), "start-again") << to_string(failing);
    EXPECT_EQ(a.seen.record.role, Role::kActive);
    return how;
  };
  EXPECT_EQ(last(Effect::kShipTail, true), refused(Refusal::kTailLate));
  EXPECT_EQ(last(Effect::kEndKeeper, false), refused(Refusal::kFailed));
  EXPECT_EQ(last(Effect::kSign, false), refused(Refusal::kFailed));
  EXPECT_EQ(last(Effect::kSign, true), refused(Refusal::kFailed));
}

TEST(HandOver, a_protection_that_was_to_end_stands_again) {
  Site a{.seen = holder(),
         .machine = Machine({.act = Act::kHandOver, .peer = kB}),
         .signs = titles().handed_over};
  a.seen.protection->state = Protected::kWithdrawing;
  EXPECT_EQ(a.run(), done(Done::kHandedOver));
  EXPECT_EQ(a.did[1], "store-protected");
}

TEST(TakeOver, the_takers_half_of_a_hand_over) {
  Site b{.seen = standby(),
         .machine = Machine({.act = Act::kTakeOver}),
         .hand_over = titles().handed_over,
         .said = {.source = SourceAnswer::kHandedOver}};
  EXPECT_EQ(b.run(), done(Done::kRuns));
  EXPECT_THAT(
      b.did, ElementsAre("ask-hand-over", "seal-replica", "show-line", "store-taken", "ask-members",
                         "end-replica", "start-keeper", "adopt", "start-guest"));
}

TEST(TakeOver, goes_forward_once_it_is_signed) {
  Site b{.seen = standby(titles().handed_over), .machine = Machine({.act = Act::kTakeOver})};
  b.seen.replica->sealed = true;  // by one who was killed; what it showed is forgotten too
  EXPECT_EQ(b.run(), done(Done::kRuns));
  EXPECT_THAT(b.did, testing::Contains("store-taken"));
  EXPECT_THAT(b.did, testing::Not(testing::Contains("ask-hand-over")));
}

TEST(TakeOver, on_a_word_from_a_silent_holder) {
  Site b{.seen = standby(),
         .machine = Machine({.act = Act::kTakeOver, .source_is_off = true}),
         .signs = titles().taken};
  EXPECT_EQ(b.run(), done(Done::kRuns));
  EXPECT_THAT(b.did, ElementsAre("ask-hand-over", "reopen-replica", "seal-replica", "show-line",
                                 "ask-members", "sign", "store-taken", "ask-members", "end-replica",
                                 "start-keeper", "adopt", "start-guest"));
}

TEST(TakeOver, no_word_overrides_a_source_that_answers) {
  for (const SourceAnswer answer :
       {SourceAnswer::kRefused, SourceAnswer::kHandedOver, SourceAnswer::kNoAnswer}) {
    Site b{.seen = standby(),
           .machine =
               Machine({.act = Act::kTakeOver, .source_is_off = answer != SourceAnswer::kNoAnswer}),
           .said = {.source = answer}};
    b.run();
    EXPECT_THAT(b.did, ElementsAre("ask-hand-over"));
    EXPECT_FALSE(b.seen.replica->sealed);
  }
}

TEST(TakeOver, an_empty_replica_leaves_the_source_alone) {
  Site b{.seen = standby(), .machine = Machine({.act = Act::kTakeOver, .source_is_off = true})};
  b.seen.replica->empty = true;
  EXPECT_EQ(b.run(), refused(Refusal::kEmptyReplica));
  EXPECT_TRUE(b.did.empty());
}

TEST(TakeOver, undone_if_it_is_not_signed) {
  for (const bool by_time : {false, true}) {
    Site b{.seen = standby(), .machine = Machine({.act = Act::kTakeOver, .source_is_off = true})};
    (by_time ? b.late : b.fail).insert(Effect::kSign);
    EXPECT_EQ(b.run(), refused(Refusal::kFailed));
    EXPECT_EQ(b.did.back(), "unseal-replica");
    EXPECT_EQ(std::ranges::count(b.did, "sign") > 3, by_time) << "silence has to last";
  }
}

TEST(TakeOver, a_start_that_fails_leaves_nothing_running) {
  for (const Effect failing : {Effect::kStartKeeper, Effect::kAdopt, Effect::kStartGuest}) {
    Site b{.seen = standby(titles().handed_over), .machine = Machine({.act = Act::kTakeOver})};
    b.fail.insert(failing);
    EXPECT_EQ(b.run(), refused(Refusal::kFailed));
    EXPECT_EQ(b.did.back(), "end-keeper");
    EXPECT_EQ(b.seen.record.role, Role::kActive) << "it is this site's, and `vm start` mends it";
  }
}

TEST(Fence, first_the_record_then_what_runs_whatever_else_goes_on) {
  Site a{.seen = holder(titles().taken), .machine = Machine({.act = Act::kFence})};
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("store-superseded", "fence"));
  EXPECT_FALSE(a.seen.units.guest);
}

TEST(Fence, by_the_record_alone_where_the_vault_is_away) {
  Site a{.seen = holder(nullptr), .machine = Machine({.act = Act::kFence})};
  a.seen.record.role = Role::kSuperseded;
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("fence"));
  Site own{.seen = holder(nullptr), .machine = Machine({.act = Act::kFence})};
  EXPECT_EQ(own.run(), done(Done::kNothingLeft));
  EXPECT_TRUE(own.seen.units.guest);
}

TEST(Follow, who_gave_the_vm_away_stands_by) {
  Site a{.seen = holder(titles().handed_over), .machine = Machine({.act = Act::kFollow})};
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("store-superseded", "fence", "end-keeper", "end-stream",
                                 "store-standby", "start-replica"));
}

TEST(Follow, who_gave_the_vm_away_tells_it_until_that_is_known) {
  Site a{.seen = standby(), .machine = Machine({.act = Act::kFollow})};
  a.seen.peer_knows = false;
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("exchange"));
}

TEST(Follow, who_was_taken_from_waits) {
  Site a{.seen = holder(titles().taken), .machine = Machine({.act = Act::kFollow})};
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("store-superseded", "fence", "end-keeper"));
  EXPECT_EQ(a.seen.record.role, Role::kSuperseded);
}

TEST(Follow, not_while_it_is_unknown_what_runs) {
  Site a{.seen = holder(titles().handed_over), .machine = Machine({.act = Act::kFollow})};
  a.seen.record.role = Role::kSuperseded;
  a.seen.units = {.unsure = true};
  EXPECT_EQ(a.run(), done(Done::kWaits));
  EXPECT_THAT(a.did, testing::Not(testing::Contains("store-standby")));
}

TEST(Follow, who_took_the_vm_over_ships_back) {
  Site b{.seen = standby(titles().handed_over), .machine = Machine({.act = Act::kFollow})};
  b.seen.record.role = Role::kActive;
  b.seen.protection = Protection{.peer = kA};
  EXPECT_EQ(b.run(), done(Done::kNothingLeft));
  EXPECT_THAT(b.did, ElementsAre("start-stream"));
}

TEST(Follow, a_seeded_site_is_made_a_standby) {
  Site a{.seen = holder(titles().seeded),
         .machine = Machine({.act = Act::kFollow}),
         .signs = titles().stands_by};
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("exchange", "find-line", "sign", "exchange"));
  Site stopped{.seen = holder(titles().seeded),
               .machine = Machine({.act = Act::kFollow}),
               .signs = titles().stands_by};
  stopped.seen.units = {};
  EXPECT_EQ(stopped.run(), done(Done::kNothingLeft));
  EXPECT_THAT(stopped.did, ElementsAre("exchange", "sign", "exchange"));
}

TEST(Follow, who_stands_by_is_told_until_it_knows) {
  Site a{.seen = holder(), .machine = Machine({.act = Act::kFollow})};
  a.seen.peer_knows = false;
  EXPECT_EQ(a.run(), done(Done::kNothingLeft));
  EXPECT_THAT(a.did, ElementsAre("exchange"));
  Site silent{
      .seen = holder(), .machine = Machine({.act = Act::kFollow}), .late = {Effect::kExchange}};
  silent.seen.peer_knows = false;
  EXPECT_EQ(silent.run(), done(Done::kWaits));
}

TEST(Follow, no_standby_before_it_has_the_line) {
  for (const Ended& said : {Ended{.holds = true}, Ended{.whole = true}}) {
    Site a{.seen = holder(titles().seeded), .machine = Machine({.act = Act::kFollow})};
    a.said = said;
    EXPECT_EQ(a.run(), done(Done::kWaits));
    EXPECT_THAT(a.did, testing::Not(testing::Contains("sign")));
  }
}

TEST(Follow, a_keeper_that_does_not_answer_does_not_keep_the_turn) {
  Site a{.seen = holder(titles().seeded),
         .machine = Machine({.act = Act::kFollow}),
         .late = {Effect::kFindLine}};
  EXPECT_EQ(a.run(), done(Done::kWaits));
  EXPECT_THAT(a.did, ElementsAre("exchange", "find-line"));
}

// What the holder signed, and its standby's resignation, cross: both name one holder.
TEST(Join, of_two_statements_that_name_one_holder_the_holder_makes_one) {
  Site site{.seen = holder(), .machine = Machine({.act = Act::kFollow}), .signs = titles().joined};
  site.seen.title.rivals = {titles().resigned};
  EXPECT_EQ(site.run(), done(Done::kNothingLeft));
  EXPECT_THAT(site.did, testing::ElementsAre("sign", "exchange"));
  EXPECT_TRUE(site.seen.title.rivals.empty());
}

TEST(Join, before_a_start_and_the_members_are_asked_again) {
  Site site{.seen = holder(), .machine = Machine({.act = Act::kStart}), .signs = titles().joined};
  site.seen.units = {};
  site.seen.title.rivals = {titles().resigned};
  EXPECT_EQ(site.run(), done(Done::kRuns));
  ASSERT_GE(site.did.size(), 3U);
  EXPECT_EQ(site.did[0], "ask-members");
  EXPECT_EQ(site.did[1], "sign");
  EXPECT_EQ(site.did[2], "ask-members");
}

TEST(Join, one_that_fails_is_no_start_on_a_conflict) {
  Site site{.seen = holder(), .machine = Machine({.act = Act::kStart}), .fail = {Effect::kSign}};
  site.seen.units = {};
  site.seen.title.rivals = {titles().resigned};
  EXPECT_EQ(site.run(), refused(Refusal::kRival));
}

TEST(Join, before_a_hand_over_which_stops_nothing_for_who_has_resigned) {
  Site site{.seen = holder(),
            .machine = Machine({.act = Act::kHandOver, .peer = kB}),
            .signs = titles().joined};
  site.seen.title.rivals = {titles().resigned};
  site.said.prepared = false;  // it has no replica any more
  EXPECT_EQ(site.run(), refused(Refusal::kNotPrepared));
  EXPECT_EQ(site.did.front(), "sign");
  EXPECT_TRUE(site.seen.units.guest);
}

TEST(Join, is_none_of_a_rival_that_names_another_holder) {
  Site site{.seen = holder(), .machine = Machine({.act = Act::kFollow})};
  site.seen.title.rivals = {titles().taken};
  EXPECT_EQ(site.run(), done(Done::kNothingLeft));
  EXPECT_THAT(site.did, testing::Not(testing::Contains("sign")));
}

TEST(Follow, a_seal_that_a_take_left_is_broken) {
  Site b{.seen = standby(), .machine = Machine({.act = Act::kFollow})};
  b.seen.replica->sealed = true;
  EXPECT_EQ(b.run(), done(Done::kNothingLeft));
  EXPECT_THAT(b.did, ElementsAre("unseal-replica"));
  Site handed{.seen = standby(titles().handed_over), .machine = Machine({.act = Act::kFollow})};
  handed.seen.replica->sealed = true;
  EXPECT_EQ(handed.run(), done(Done::kNothingLeft));
  EXPECT_TRUE(handed.seen.replica->sealed) << "nothing may come after what it was handed";
}

TEST(Follow, who_was_handed_the_vm_carries_it_on_by_command_only) {
  Site b{.seen = standby(titles().handed_over), .machine = Machine({.act = Act::kFollow})};
  EXPECT_EQ(b.run(), done(Done::kNothingLeft));
  EXPECT_TRUE(b.did.empty());
}

TEST(Start, asks_every_member_and_opens) {
  Site a{.seen = holder(), .machine = Machine({.act = Act::kStart})};
  a.seen.units = {};
  a.seen.record.wanted = false;
  EXPECT_EQ(a.run(), done(Done::kRuns));
  EXPECT_THAT(a.did, ElementsAre("ask-members", "start-keeper", "start-guest", "store-wanted"));
}

TEST(Start, a_standby_that_is_silent_holds_it) {
  Site a{.seen = holder(), .machine = Machine({.act = Act::kStart})};
  a.seen.units = {};
  a.said.silent = {kB};
  EXPECT_EQ(a.run(), refused(Refusal::kStandbySilent));
  Site other{.seen = holder(), .machine = Machine({.act = Act::kStart})};
  other.seen.units = {};
  other.said.silent = {kC};  // no standby
  EXPECT_EQ(other.run(), done(Done::kRuns));
}

TEST(Start, goes_on_without_it_on_a_word) {
  Site a{.seen = holder(),
         .machine = Machine({.act = Act::kStart, .without_peer = true}),
         .signs = titles().stands_by};
  a.seen.units = {};
  a.said.silent = {kB};
  EXPECT_EQ(a.run(), done(Done::kRuns));
  EXPECT_THAT(a.did,
              ElementsAre("ask-members", "sign", "ask-members", "start-keeper", "start-guest"));
}

TEST(Start, not_of_what_is_anothers_or_in_conflict_or_running) {
  Site b{.seen = standby(), .machine = Machine({.act = Act::kStart})};
  EXPECT_EQ(b.run(), refused(Refusal::kNotHolder));
  Site rival{.seen = holder(), .machine = Machine({.act = Act::kStart})};
  rival.seen.units = {};
  rival.seen.title.rivals = {titles().taken};
  EXPECT_EQ(rival.run(), refused(Refusal::kRival));
  Site runs{.seen = holder(), .machine = Machine({.act = Act::kStart})};
  EXPECT_EQ(runs.run(), refused(Refusal::kRunsAlready));
  EXPECT_TRUE(runs.did.empty());
}

TEST(Start, a_keeper_that_outlived_its_guest_ends_first) {
  Site a{.seen = holder(), .machine = Machine({.act = Act::kStart})};
  a.seen.units.guest = false;
  EXPECT_EQ(a.run(), done(Done::kRuns));
  EXPECT_EQ(a.did[1], "end-keeper");
}

TEST(Stop, guest_then_wish_then_keeper) {
  Site a{.seen = holder(), .machine = Machine({.act = Act::kStop})};
  EXPECT_EQ(a.run(), done(Done::kStopped));
  EXPECT_THAT(a.did, ElementsAre("stop-guest", "store-not-wanted", "end-keeper"));
}

TEST(Protect, first_here_then_there) {
  Site a{.seen = holder(titles().created),
         .machine = Machine({.act = Act::kProtect, .peer = kB}),
         .signs = titles().seeded};
  a.seen.protection.reset();
  a.seen.stream = false;
  EXPECT_EQ(a.run(), done(Done::kProtected));
  EXPECT_THAT(a.did, ElementsAre("store-offered", "offer", "exchange", "sign", "store-protected",
                                 "start-stream"));
}

TEST(Protect, a_refused_offer_leaves_nothing) {
  Site a{.seen = holder(titles().created),
         .machine = Machine({.act = Act::kProtect, .peer = kB}),
         .fail = {Effect::kOffer}};
  a.seen.protection.reset();
  EXPECT_EQ(a.run(), refused(Refusal::kFailed));
  EXPECT_FALSE(a.seen.protection);
}

TEST(Protect, an_unanswered_offer_stays_to_be_asked_again) {
  Site a{.seen = holder(titles().created),
         .machine = Machine({.act = Act::kProtect, .peer = kB}),
         .late = {Effect::kOffer}};
  a.seen.protection.reset();
  EXPECT_EQ(a.run(), refused(Refusal::kPeerSilent));
  EXPECT_EQ(a.seen.protection->state, Protected::kOffered);
}

TEST(Withdraw, stays_a_standby_until_it_has_resigned) {
  Site a{.seen = holder(), .machine = Machine({.act = Act::kWithdraw, .peer = kB})};
  EXPECT_EQ(a.run(), done(Done::kWithdrawn));
  EXPECT_THAT(
      a.did, ElementsAre("end-stream", "store-withdrawing", "ask-withdrawal", "forget-protection"));
  Site silent{.seen = holder(),
              .machine = Machine({.act = Act::kWithdraw, .peer = kB}),
              .late = {Effect::kAskWithdrawal, Effect::kExchange}};
  EXPECT_EQ(silent.run(), done(Done::kStaysThere));
  EXPECT_EQ(silent.seen.protection->state, Protected::kWithdrawing);
}

TEST(Withdraw, expels_on_a_word) {
  Site a{.seen = holder(),
         .machine = Machine({.act = Act::kWithdraw, .peer = kB, .without_peer = true}),
         .late = {Effect::kAskWithdrawal, Effect::kExchange},
         .signs = titles().created};
  EXPECT_EQ(a.run(), done(Done::kWithdrawn));
  EXPECT_THAT(a.did, ElementsAre("end-stream", "store-withdrawing", "ask-withdrawal", "exchange",
                                 "ask-members", "sign", "forget-protection"));
}

TEST(Table, is_in_order_and_has_nothing_twice) {
  for (size_t act = 0; act < kActs; ++act) {
    std::set<Effect> seen;
    for (const Effect effect : effects_of(static_cast<Act>(act)))
      EXPECT_TRUE(seen.insert(effect).second) << to_string(effect);
  }
}

// Whatever is there and however effects end: each act ends, and has no effect that the table lacks.
class Walk : public testing::Test {
 protected:
  using Rng = std::minstd_rand;
  Observed any(Rng& rng) {
    const auto yes = [&] { return rng() % 2 == 0; };
    const Titles& all = titles();
    const title::SignedPtr heads[]{nullptr,       all.created,     all.seeded,
                                   all.stands_by, all.handed_over, all.taken};
    Observed seen{.self = yes() ? kA : kB,
                  .now = title::Instant(1000 * title::kSecond),
                  .title = {.head = heads[rng() % std::size(heads)]},
                  .record = {.role = static_cast<Role>(rng() % 4),
                             .epoch = Epoch(1 + rng() % 2),
                             .wanted = yes(),
                             .adopt = yes()},
                  .peer_connected = yes(),
                  .peer_knows = yes(),
                  .stream = yes()};
    if (seen.title.head != nullptr && rng() % 8 == 0) seen.title.rivals = {all.taken};
    if (yes()) {
      seen.protection = Protection{.peer = seen.self == kA ? kB : kA,
                                   .way = yes() ? Way::kOut : Way::kIn,
                                   .state = static_cast<Protected>(rng() % 3)};
    }
    if (yes()) {
      seen.units = {.guest = yes(), .keeper = yes()};
    } else if (yes()) {
      seen.units.replica = true;
      seen.replica = Replica{.sealed = yes(), .empty = rng() % 4 == 0};
    }
    seen.units.unsure = rng() % 8 == 0;
    return seen;
  }
};

TEST_F(Walk, each_act_ends_and_keeps_to_its_table) {
  Rng rng(7);
  std::map<Act, std::set<Effect>> had;
  for (int i = 0; i < 600'000; ++i) {
    Site site{.seen = any(rng), .machine = Machine({.act = Act::kFollow})};
    const Act act = static_cast<Act>(rng() % kActs);
    // Which need a title are not begun without one.
    if (site.seen.title.head == nullptr && act != Act::kFence && act != Act::kFollow) continue;
    site.machine = Machine({.act = act,
                            .peer = site.seen.self == kA ? kB : kA,
                            .source_is_off = rng() % 2 == 0,
                            .without_peer = rng() % 2 == 0});
    const Titles& all = titles();
    const title::SignedPtr next[]{all.seeded, all.stands_by, all.handed_over, all.taken};
    int steps = 0;
    for (;; ++steps) {
      ASSERT_LT(steps, 200) << to_string(act) << " does not end";
      const Step step = site.machine.next(site.seen);
      if (step.what != Step::What::kEffect) break;
      had[act].insert(step.effect);
      site.signs = next[rng() % std::size(next)];
      Ended ended{.whole = rng() % 4 != 0,
                  .prepared = rng() % 4 != 0,
                  .source = static_cast<SourceAnswer>(rng() % 4),
                  .holds = rng() % 4 != 0};
      if (rng() % 4 == 0) ended.silent = {kB};
      if (rng() % 3 == 0) ended.trouble = rng() % 2 == 0 ? Trouble::kTime : Trouble::kRefused;
      if (ended.trouble == Trouble::kNone &&
          (site.seen.protection || step.effect != Effect::kStoreProtected) &&
          (site.seen.replica ||
           (step.effect != Effect::kSealReplica && step.effect != Effect::kUnsealReplica)))
        site.apply(step.effect);
      site.machine.ended(step, ended, site.seen);
      site.seen.now.value += title::kSecond / 2;
    }
  }
  for (size_t i = 0; i < kActs; ++i) {
    const Act act = static_cast<Act>(i);
    const auto table = effects_of(act);
    for (const Effect effect : had[act])
      EXPECT_NE(std::ranges::find(table, effect), table.end())
          << to_string(act) << " has " << to_string(effect);
    for (const Effect effect : table)
      EXPECT_TRUE(had[act].contains(effect))
          << to_string(act) << " never has " << to_string(effect);
  }
}

}  // namespace
}  // namespace hf::lifecycle
