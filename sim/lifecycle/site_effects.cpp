// What a site does of an act's effects, each with the time that it takes. A kill of the daemon ends
// nothing that another process does.
#include <algorithm>

#include "sim/lifecycle/site.h"
#include "sim/lifecycle/world.h"

namespace hf::sim::life {

using lifecycle::Role;
using lifecycle::SourceAnswer;
using lifecycle::Trouble;
using lifecycle::Way;

namespace {
constexpr uint64_t kMs = 1000;
constexpr uint64_t kSecond = 1'000'000;
constexpr uint64_t kReach = 700 * kMs;
constexpr uint64_t kAsk = 3 * kSecond;
constexpr uint64_t kSourceStops = 30 * kSecond;
constexpr uint64_t kGateLimit = 30 * kSecond;
constexpr int kRounds = 6;

bool only_time(const title::Refused& refused) {
  using title::Action;
  return refused.action == Action::kAsk || refused.action == Action::kAskWithHead ||
         refused.action == Action::kWait || refused.action == Action::kLearn ||
         refused.cause == title::Cause::kHolderAnswers;
}
}  // namespace

void Site::begin(const DoingPtr& act, const Step& step, Then then) {
  if (!vault.up() && (is_message(step.effect) || is_durable(step.effect)))
    return then({.trouble = Trouble::kTime});
  if (is_message(step.effect)) {
    begin_message(act, step, then);
  } else if (step.effect == Effect::kSign) {
    sign(act, step, then);
  } else if (is_durable(step.effect)) {
    then({.trouble = store(act, step) ? Trouble::kNone : Trouble::kTime});
  } else {
    begin_process(act, step, then);
  }
}

// ---- Messages -----------------------------------------------------------------------------------

bool Site::begin_message(const DoingPtr& act, const Step& step, const Then& then) {
  const Fate fate = world.fate(*this, act->machine.wish().act, step.effect);
  switch (step.effect) {
    case Effect::kExchange:
      exchange(world.site(step.site), fate, now() + kAsk, kRounds, {},
               [act, then](const std::optional<Exchanged>& heard) {
                 if (!heard) return then({.trouble = Trouble::kTime});
                 act->theirs = heard->answer.line;
                 then({.whole = heard->answer.whole, .prepared = heard->answer.prepared});
               });
      return true;
    case Effect::kAskMembers: {
      const bool start = act->machine.wish().act == lifecycle::Act::kStart;
      ask_members(fate, start ? kAsk : kReach,
                  [then](std::vector<SiteId> silent) { then({.silent = std::move(silent)}); });
      return true;
    }
    case Effect::kAskHandOver: {
      Site& source = world.site(step.site);
      if (!world.connected(*this, source)) {
        after(kReach, [then] { then({.source = SourceAnswer::kNoAnswer}); });
        return true;
      }
      world.call(*this, source, {.kind = Question::Kind::kHandOver}, fate, kSourceStops,
                 [this, then, from = step.site](const std::optional<Reply>& reply) {
                   if (!reply) return then({.source = SourceAnswer::kSilent});
                   if (!reply->done) return then({.source = SourceAnswer::kRefused});
                   if (!vault.up() || !learn(from, reply->bundle))
                     return then({.trouble = Trouble::kRefused});
                   then({.source = SourceAnswer::kHandedOver});
                 });
      return true;
    }
    case Effect::kOffer:
      world.call(*this, world.site(step.site),
                 {.kind = Question::Kind::kOffer, .bundle = vault.lacking({})}, fate, kAsk,
                 [then](const std::optional<Reply>& reply) {
                   if (!reply) return then({.trouble = Trouble::kTime});
                   then({.trouble = reply->done ? Trouble::kNone : Trouble::kRefused});
                 });
      return true;
    case Effect::kAskWithdrawal:
      world.call(
          *this, world.site(step.site),
          {.kind = Question::Kind::kWithdraw, .known = vault.known(), .bundle = vault.lacking({})},
          fate, kAsk, [this, then, from = step.site](const std::optional<Reply>& reply) {
            if (!reply || !reply->done) return then({.trouble = Trouble::kTime});
            if (!vault.up() || !learn(from, reply->bundle))
              return then({.trouble = Trouble::kTime});
            then({});
          });
      return true;
    default:
      HF_ASSERT(false);
  }
}

// As TitleKeeper::exchange(): until both know the same, and this vault has taken the answer.
void Site::exchange(Site& with, Fate fate, uint64_t until, int rounds, Bytes bundle, HeardOf then) {
  const std::optional<title::Question> question =
      vault.up() && rounds > 0 ? vault.ask(with.id) : std::nullopt;
  if (!question || now() >= until) return then(std::nullopt);
  const std::vector<Digest> mine = vault.known();
  world.call(*this, with,
             {.kind = Question::Kind::kTitle,
              .known = mine,
              .bundle = std::move(bundle),
              .question = question},
             fate, until - now(),
             [this, &with, until, rounds, mine, then](const std::optional<Reply>& reply) {
               if (!reply || !reply->done || !vault.up()) return then(std::nullopt);
               if (!reply->bundle.empty()) learn(with.id, reply->bundle);
               if (!vault.up()) return then(std::nullopt);
               const bool taken = vault.take_answer(reply->answer);
               const std::vector<Digest> known = vault.known();
               const bool both =
                   known == mine && std::ranges::all_of(known, [&](const Digest& one) {
                     return std::ranges::find(reply->known, one) != reply->known.end();
                   });
               if (both && taken) told_ = vault.view()->head->digest();
               if (both && taken)
                 return then(Exchanged{title::SignedAnswer::decode(reply->answer)->answer});
               exchange(with, Fate::kNone, until, rounds - 1,
                        both ? Bytes() : vault.lacking(reply->known), then);
             });
}

void Site::ask_members(Fate fate, uint64_t limit, std::function<void(std::vector<SiteId>)> then) {
  const auto known = title();
  if (!known || known->head == nullptr) return then({});
  struct Round {
    size_t left = 0;
    std::vector<SiteId> silent;
  };
  const auto round = std::make_shared<Round>();
  std::vector<SiteId> others;
  for (const title::Member& member : known->head->statement().members.all())
    if (member.site != id) others.push_back(member.site);
  round->left = others.size();
  if (others.empty()) return then({});
  for (const SiteId& other : others) {
    const auto heard = [round, other, then](const std::optional<Exchanged>& exchanged) {
      if (!exchanged) round->silent.push_back(other);
      if (--round->left == 0) then(round->silent);
    };
    Site& with = world.site(other);
    if (world.connected(*this, with)) {
      exchange(with, fate, now() + limit, kRounds, {}, heard);
    } else {
      vault.ask(other);  // of one that is not there the question stands all the same
      heard(std::nullopt);
    }
  }
}

// ---- The vault ----------------------------------------------------------------------------------

void Site::sign(const DoingPtr& act, const Step& step, const Then& then) {
  const title::Judged<vault::TitleView> outcome = vault.propose(step.kind, step.site, act->word);
  if (!outcome) {
    world.note("{}: \"{}\" is refused: {}", name, to_string(step.kind),
               to_string(outcome.error().cause));
    return then({.trouble = only_time(outcome.error()) ? Trouble::kTime : Trouble::kRefused});
  }
  world.signed_here(*this, *outcome);
  settle();
  then({});
}

// ---- The record ---------------------------------------------------------------------------------

bool Site::store(const DoingPtr&, const Step& step) {
  const auto known = title();
  if (!known || known->head == nullptr) return false;
  const title::Statement& head = known->head->statement();
  switch (step.effect) {
    case Effect::kStoreSuperseded:
      record.role = Role::kSuperseded;
      record.epoch = std::max(record.epoch, head.epoch);
      return true;
    case Effect::kStoreTaken: {
      record = {.role = Role::kActive, .epoch = head.epoch, .wanted = true, .adopt = true};
      const SiteId giver = protection->peer;
      protection.reset();
      if (head.is_standby(giver)) protection = lifecycle::Protection{.peer = giver};
      // Who was at it gives the turn back.
      if (turn_ == job_) turn_.reset();
      return true;
    }
    case Effect::kStoreStandby:
      record.role = Role::kStandby;
      record.wanted = false;
      protection = lifecycle::Protection{.peer = step.site, .way = Way::kIn};
      return true;
    case Effect::kStoreWanted:
      record.wanted = true;
      return true;
    case Effect::kStoreNotWanted:
      record.wanted = false;
      return true;
    case Effect::kStoreOffered:
      protection =
          lifecycle::Protection{.peer = step.site, .state = lifecycle::Protected::kOffered};
      return true;
    case Effect::kStoreProtected:
      if (!protection || protection->peer != step.site) return false;
      protection->state = lifecycle::Protected::kStands;
      stream_ = true;
      return true;
    case Effect::kStoreWithdrawing:
      if (!protection) return false;
      protection->state = lifecycle::Protected::kWithdrawing;
      return true;
    case Effect::kForgetProtection:
      protection.reset();
      return true;
    default:
      HF_ASSERT(false);
  }
}

// ---- Processes ----------------------------------------------------------------------------------

void Site::begin_process(const DoingPtr& act, const Step& step, const Then& then) {
  const auto later = [&](uint64_t least_ms, uint64_t most_ms, std::function<void()> what) {
    after(rng_.between(least_ms, most_ms) * kMs, [this, life = host_life_, what = std::move(what)] {
      if (life == host_life_) what();
    });
  };
  const Ended failed{.trouble = Trouble::kRefused};
  switch (step.effect) {
    case Effect::kFence:  // both at once, and no start in between
      ++bar;
      set_guest(false);
      if (vault.up()) vault.revoke();
      return then({});
    case Effect::kKillGuest:
      ++bar;
      set_guest(false);
      return later(1, 20, [then] { then({}); });
    case Effect::kStopGuest:
      // Some guests don't hear, and are waited for.
      return later(10, rng_.chance(1, 4) ? 20'000 : 800, [this, then] {
        set_guest(false);
        then({});
      });
    case Effect::kEndKeeper:
      return later(5, 150, [this, then, life = keeper.life] {
        if (keeper.life == life && keeper.kind == KeeperKind::kKeyed) {
          // What a guest that runs still needs is not ended under it.
          close_keeper();
          end_keeper_unit();
        }
        if (vault.up()) vault.revoke();
        then({});
      });
    case Effect::kShipTail:
      // Who ships has the directory, and syncs what it inherited.
      if (keeper.kind == KeeperKind::kNone) data.sync();
      return ship_tail(act, now() + lifecycle::kTailLimit, then);
    case Effect::kStartReplica:
      return later(5, 40, [this, then, failed] {
        if (keeper.kind == KeeperKind::kKeyed || guest) return then(failed);
        start_replica_unit();
        then({});
      });
    case Effect::kReopenReplica:
      end_keeper_unit();
      return later(20, 90, [this, then, failed] {
        if (keeper.kind == KeeperKind::kKeyed) return then(failed);
        start_replica_unit();
        then({});
      });
    case Effect::kSealReplica:
      return later(1, 10, [this, then, failed] {
        if (keeper.kind != KeeperKind::kReplica) return then(failed);
        keeper.sealed = true;
        then({});
      });
    case Effect::kUnsealReplica:
      if (keeper.kind == KeeperKind::kReplica) keeper.sealed = false;
      return later(1, 2, [then] { then({}); });
    case Effect::kShowLine:
      if (keeper.kind != KeeperKind::kReplica || !vault.up()) return then(failed);
      vault.show_line(data.end(), std::nullopt);
      return later(1, 3, [then] { then({}); });
    case Effect::kFindLine: {
      if (!keeper.opened || !vault.up()) return then({.trouble = Trouble::kTime});
      const bool holds = act->theirs && data.has(*act->theirs);
      vault.show_line(data.end(), holds ? act->theirs : std::nullopt);
      return later(1, 3, [then, holds] { then({.holds = holds}); });
    }
    case Effect::kEndReplica:
      return later(5, 60, [this, then] {
        if (keeper.kind == KeeperKind::kReplica) end_keeper_unit();
        then({});
      });
    case Effect::kStartKeeper:
      return start_keeper(act, then);
    case Effect::kAdopt:
      return later(1, 30, [this, then] {
        record.adopt = false;
        then({});
      });
    case Effect::kStartGuest: {
      const bool queued_before =
          act->bar != bar || record.epoch != act->epoch || record.role != Role::kActive;
      const bool anyway = world.fault == Fault::kStartAfterFence;
      if ((queued_before && !anyway) || (!anyway && !runs() && !keeper.opened)) return then(failed);
      return later(5, 60, [this, act, then, failed, anyway] {
        if (act->bar != bar && !anyway) return then(failed);
        set_guest(true);
        world.guest_started(*this);
        then({.trouble = world.guest_fails() ? Trouble::kRefused : Trouble::kNone});
      });
    }
    case Effect::kStartStream:
      stream_ = true;
      return then({});
    case Effect::kEndStream:
      stream_ = false;
      return then({});
    case Effect::kStartAgain:
      start_again_ = true;
      return then({});
    default:
      HF_ASSERT(false);
  }
}

void Site::ship_tail(const DoingPtr& act, uint64_t until, const Then& then) {
  const Site& to = world.site(act->machine.wish().peer);
  if (to.has_vm && to.data.size() == data.synced() && to.keeper.kind == KeeperKind::kReplica &&
      to.data.begins_as(data, data.synced()))
    return then({});
  if (now() >= until) return then({.trouble = Trouble::kTime});
  after(20 * kMs, [this, act, until, then] {
    if (alive(act)) ship_tail(act, until, then);
  });
}

// The unit, the key, the line, the gate.
void Site::start_keeper(const DoingPtr& act, const Then& then) {
  const Ended failed{.trouble = Trouble::kRefused};
  act->epoch = record.epoch;  // a take raises it between the command and its start
  const bool anyway = world.fault == Fault::kStartAfterFence;
  if (!anyway && (act->bar != bar || record.role != Role::kActive)) return then(failed);
  if (keeper.kind != KeeperKind::kNone) return then(failed);
  keeper = {.kind = KeeperKind::kKeyed, .life = keeper.life + 1};
  const Status released = vault.up() ? vault.release(true) : Status();
  if (!released.ok()) world.note("{}: no key: {}", name, released.error().cause);
  const uint64_t opens =
      world.slow_start() || rng_.chance(1, 8) ? rng_.between(3'000, 20'000) : rng_.between(5, 300);
  after(opens * kMs, [this, life = keeper.life] { keeper_tries(life); });
  await_gate(act, keeper.life, now() + kGateLimit, now(), then);
}

void Site::await_gate(const DoingPtr& act, uint64_t life, uint64_t until, uint64_t asked,
                      const Then& then) {
  const Ended failed{.trouble = Trouble::kRefused};
  if (!alive(act)) return;
  const bool anyway = world.fault == Fault::kStartAfterFence;
  if (!anyway && (record.role != Role::kActive || record.epoch != act->epoch)) return then(failed);
  if (keeper.kind == KeeperKind::kKeyed && keeper.opened) return then({});
  if (keeper.kind != KeeperKind::kKeyed || now() >= until) return then(failed);
  // What the other sites have said counts for three seconds; it may open later than that.
  if (vault.up() && now() >= asked + 1500 * kMs) {
    return ask_members(Fate::kNone, kReach, [this, act, life, until, then](const auto&) {
      await_gate(act, life, until, now(), then);
    });
  }
  after(30 * kMs,
        [this, act, life, until, asked, then] { await_gate(act, life, until, asked, then); });
}

}  // namespace hf::sim::life
