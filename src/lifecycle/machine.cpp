#include "lifecycle/machine.h"

#include <algorithm>

namespace hf::lifecycle {
namespace {

Step effect(Effect what, const SiteId& site = {}) {
  return {.what = Step::What::kEffect, .effect = what, .site = site};
}
Step sign(title::Kind kind, const SiteId& subject = {}) {
  return {.what = Step::What::kEffect, .effect = Effect::kSign, .site = subject, .kind = kind};
}
Step done(Done how) { return {.what = Step::What::kDone, .done = how}; }
Step refuse(Refusal why) { return {.what = Step::What::kRefused, .refusal = why}; }

bool runs_something(const Units& units) { return units.guest || units.keeper; }

bool protects(const Observed& now, Way way) { return now.protection && now.protection->way == way; }

}  // namespace

Step Machine::next(const Observed& now) const {
  switch (wish_.act) {
    case Act::kFence:
      return fence(now).value_or(done(Done::kNothingLeft));
    case Act::kFollow:
      return follow(now);
    case Act::kHandOver:
      return hand_over(now);
    case Act::kTakeOver:
      return take_over(now);
    case Act::kStart:
      return start(now);
    case Act::kStop:
      return stop(now);
    case Act::kProtect:
      return protect(now);
    case Act::kWithdraw:
      return withdraw(now);
  }
  HF_ASSERT(false);
}

void Machine::ended(const Step& step, const Ended& how, const Observed& now) {
  HF_ASSERT(step.what == Step::What::kEffect);
  if (step.effect == Effect::kSign && step.kind == title::Kind::kJoin) {  // none of an act's own
    join_failed_ = how.trouble != Trouble::kNone;
    last_ = step.effect;
    return;
  }
  Tried& tried = tried_[static_cast<size_t>(step.effect)];
  if (tried.well + tried.badly == 0) tried.first = now.now;
  tried.trouble = how.trouble;
  last_ = step.effect;
  if (how.trouble == Trouble::kRefused && !failed_) failed_ = step.effect;
  if (how.trouble != Trouble::kNone) {
    tried.badly++;
    return;
  }
  tried.well++;
  if (step.effect == Effect::kEndKeeper && failed_) undone_ = true;
  switch (step.effect) {
    case Effect::kExchange:
      whole_ = how.whole;
      prepared_ = how.prepared;
      exchanged_after_tail_ = did(Effect::kShipTail);
      break;
    case Effect::kAskHandOver:
      source_ = how.source;
      break;
    case Effect::kAskMembers:
      silent_ = how.silent;
      break;
    case Effect::kFindLine:
      holds_ = how.holds;
      break;
    default:
      break;
  }
}

// ---- What the title says ------------------------------------------------------------------------

// First the record, so that no start passes any more; then what runs. Whatever else goes on. What
// the record says is enough, should the vault be away: it was never ahead of the title.
std::optional<Step> Machine::fence(const Observed& now) const {
  const bool known = now.title.head != nullptr;
  if (known && now.record.role == Role::kActive && !now.title.held_by(now.self)) {
    if (failed(Effect::kStoreSuperseded)) return refuse(Refusal::kFailed);
    return effect(Effect::kStoreSuperseded, now.title.head->statement().holder);
  }
  const bool ours = now.record.role == Role::kActive || now.record.role == Role::kCreating;
  if (ours || !runs_something(now.units)) return std::nullopt;
  if (failed(Effect::kFence)) return refuse(Refusal::kFailed);
  if (now.units.guest || !did(Effect::kFence)) return effect(Effect::kFence);
  return std::nullopt;  // the keeper has no key any more; its own end may take seconds
}

Step Machine::follow(const Observed& now) const {
  if (const std::optional<Step> first = fence(now)) return *first;
  if (now.title.head == nullptr || now.record.role == Role::kCreating)
    return done(Done::kNothingLeft);
  if (failed_) return done(Done::kWaits);
  if (now.record.role != Role::kActive && now.units.keeper) {
    if (tried(Effect::kEndKeeper).badly > 0) return done(Done::kWaits);
    return effect(Effect::kEndKeeper);
  }
  // One that was handed the VM, and has not carried that on, does so by its operator's command.
  if (now.record.role == Role::kStandby && now.title.held_by(now.self))
    return done(Done::kNothingLeft);
  const title::Statement& title = now.title.head->statement();
  switch (now.record.role) {
    case Role::kActive:
      if (!now.title.held_by(now.self)) return done(Done::kWaits);
      if (const std::optional<Step> first = join(now)) return *first;
      if (!now.title.rivals.empty()) return done(Done::kNothingLeft);  // to be settled
      return follow_as_holder(now).value_or(done(Done::kNothingLeft));
    case Role::kSuperseded:
      // It stands by for whoever has the VM: its line is the beginning of that site's. Only once
      // nothing here can write to it.
      if (!title.is_standby(now.self)) return done(Done::kNothingLeft);
      if (runs_something(now.units) || now.units.unsure) return done(Done::kWaits);
      if (!did(Effect::kEndStream)) return effect(Effect::kEndStream);
      return effect(Effect::kStoreStandby, title.holder);
    case Role::kStandby:
      if (!protects(now, Way::kIn) || now.units.unsure) return done(Done::kNothingLeft);
      // Who sealed it has the VM's turn until it is taken over or open again. Nobody has: a take
      // ended before it was signed, with its daemon, it may be, and the source is there to go on.
      if (now.replica && now.replica->sealed && tried(Effect::kUnsealReplica).badly == 0)
        return effect(Effect::kUnsealReplica);
      if (now.units.replica) {
        // A hand-over that was signed, and whose answer was lost, is for the taker to know.
        if (now.peer_knows || !now.peer_connected) return done(Done::kNothingLeft);
        return last_ == Effect::kExchange ? done(Done::kWaits)
                                          : effect(Effect::kExchange, now.protection->peer);
      }
      if (did(Effect::kStartReplica)) return done(Done::kNothingLeft);  // it has its own tries
      return effect(Effect::kStartReplica);
    case Role::kCreating:
      break;
  }
  return done(Done::kNothingLeft);
}

// The site that protects the VM has all of it: from now on its silence counts, and it may take it.
std::optional<Step> Machine::follow_as_holder(const Observed& now) const {
  if (!protects(now, Way::kOut) || now.protection->state != Protected::kStands) return std::nullopt;
  const SiteId& peer = now.protection->peer;
  if (!now.stream && !did(Effect::kStartStream)) return effect(Effect::kStartStream, peer);
  if (!now.peer_connected) return std::nullopt;  // its coming is told
  // Who stands by has to know it, and under which head.
  if (now.title.stands_by(peer)) {
    if (now.peer_knows) return std::nullopt;
    return last_ == Effect::kExchange ? done(Done::kWaits) : effect(Effect::kExchange, peer);
  }
  if (tried(Effect::kExchange).badly > 0) return done(Done::kWaits);
  if (!did(Effect::kExchange)) return effect(Effect::kExchange, peer);
  if (!whole_) return done(Done::kWaits);
  // What that site's keeper has shown there has to lie on the line here. Of a VM that does not run
  // the last keeper has shown it.
  if (tried(Effect::kFindLine).badly > 0) return done(Done::kWaits);
  if (now.units.keeper && !did(Effect::kFindLine)) return effect(Effect::kFindLine, peer);
  if (now.units.keeper && !holds_) return done(Done::kWaits);
  if (tried(Effect::kSign).badly > 0) return done(Done::kWaits);
  return sign(title::Kind::kStandBy, peer);
}

std::optional<Step> Machine::join(const Observed& now) const {
  if (!now.title.to_be_joined_by(now.self) || join_failed_) return std::nullopt;
  return sign(title::Kind::kJoin);
}

// ---- Hand-over, at the holder -------------------------------------------------------------------

Step Machine::hand_over(const Observed& now) const {
  const SiteId& to = wish_.peer;
  if (now.title.held_by(to)) {
    // Signed, now or before: nothing of it can run here any more, and the rest follows by itself.
    // Asked again, the answer is the same.
    if (now.record.wanted && !failed(Effect::kStoreNotWanted))
      return effect(Effect::kStoreNotWanted);
    return done(Done::kHandedOver);
  }
  if (!now.title.held_by(now.self) || now.record.role != Role::kActive)
    return refuse(Refusal::kNotHolder);
  if (const std::optional<Step> first = join(now)) return *first;
  if (!now.title.stands_by(to)) return give_back(now, Refusal::kNoStandby);
  if (!now.title.rivals.empty()) return give_back(now, Refusal::kRival);
  if (failed_) return give_back(now, Refusal::kFailed);
  // Before anything stops, the taker has shown that it can.
  if (!did(Effect::kExchange)) {
    if (tried(Effect::kExchange).badly > 0) return give_back(now, Refusal::kPeerSilent);
    return effect(Effect::kExchange, to);
  }
  if (!prepared_) return give_back(now, Refusal::kNotPrepared);
  // A protection that was to end, and has not: the site that stands by has been quicker.
  if (protects(now, Way::kOut) && now.protection->peer == to &&
      now.protection->state == Protected::kWithdrawing)
    return effect(Effect::kStoreProtected, to);
  if (now.units.guest || !did(Effect::kKillGuest)) return effect(Effect::kKillGuest);
  // Also of a VM that did not run: who looked after its journal has shown where it ended then.
  if (now.units.keeper || !did(Effect::kEndKeeper)) return effect(Effect::kEndKeeper);
  if (!did(Effect::kShipTail)) {
    if (tried(Effect::kShipTail).badly > 0) return give_back(now, Refusal::kTailLate);
    return effect(Effect::kShipTail, to);
  }
  // What it has by now, in its vault's words.
  if (!exchanged_after_tail_) {
    if (tried(Effect::kExchange).badly > 0) return give_back(now, Refusal::kPeerSilent);
    return effect(Effect::kExchange, to);
  }
  if (tried(Effect::kSign).badly > 0) return give_back(now, Refusal::kFailed);
  return sign(title::Kind::kHandOver, to);
}

// It was not signed away: a VM that ran runs again.
Step Machine::give_back(const Observed& now, Refusal why) const {
  const bool stopped = did(Effect::kKillGuest) || tried(Effect::kKillGuest).badly > 0;
  if (stopped && now.record.wanted && !now.units.guest && tried(Effect::kStartAgain).well == 0 &&
      tried(Effect::kStartAgain).badly == 0)
    return effect(Effect::kStartAgain);
  return refuse(why);
}

// ---- At the standby: the taker's half of a hand-over, or a take on a word -----------------------

Step Machine::take_over(const Observed& now) const {
  if (now.record.role == Role::kActive) {
    if (!did(Effect::kStoreTaken)) return refuse(Refusal::kNoReplica);
    return run(now);
  }
  if (now.record.role != Role::kStandby || !protects(now, Way::kIn))
    return refuse(Refusal::kNoReplica);
  if (!now.title.rivals.empty()) return take_failed(now, Refusal::kRival);
  // A source that cannot be followed is left alone.
  if (!now.replica) {
    if (tried(Effect::kStartReplica).badly > 0) return refuse(Refusal::kFailed);
    if (tried(Effect::kStartReplica).well > 2) return refuse(Refusal::kFailed);
    return effect(Effect::kStartReplica);
  }
  if (now.replica->empty) return refuse(Refusal::kEmptyReplica);
  if (now.title.held_by(now.self)) {  // signed, now or by one who did not carry it to its end
    if (failed_) return refuse(Refusal::kFailed);
    if (!now.replica->sealed || !did(Effect::kSealReplica)) return effect(Effect::kSealReplica);
    if (!did(Effect::kShowLine)) return effect(Effect::kShowLine);
    return effect(Effect::kStoreTaken);
  }
  if (tried(Effect::kAskHandOver).well + tried(Effect::kAskHandOver).badly == 0)
    return effect(Effect::kAskHandOver, now.protection->peer);
  switch (source_) {
    case SourceAnswer::kHandedOver:
      return take_failed(now, Refusal::kVaultDenies);
    case SourceAnswer::kRefused:
      return take_failed(now, Refusal::kSourceRefuses);
    case SourceAnswer::kSilent:
      if (!wish_.source_is_off) return take_failed(now, Refusal::kSourceSilent);
      break;
    case SourceAnswer::kNoAnswer:
      if (!wish_.source_is_off) return take_failed(now, Refusal::kSourceNoAnswer);
      break;
  }
  return take(now);
}

// On the operator's word, from a holder that is silent. Undone if it is not signed.
Step Machine::take(const Observed& now) const {
  if (failed_ || late(Effect::kSign, kSilenceLimit, now)) return take_failed(now, Refusal::kFailed);
  // Nothing is taken that could not be opened.
  if (!did(Effect::kReopenReplica)) return effect(Effect::kReopenReplica);
  if (!now.replica->sealed || !did(Effect::kSealReplica)) return effect(Effect::kSealReplica);
  if (!did(Effect::kShowLine)) return effect(Effect::kShowLine);
  // Asked again before each try: an answer ends the word, silence has to last.
  if (last_ != Effect::kAskMembers) return effect(Effect::kAskMembers);
  return sign(title::Kind::kTake);
}

// It may have sealed and not said so.
Step Machine::take_failed(const Observed& now, Refusal why) const {
  const bool sealed = tried(Effect::kSealReplica).well + tried(Effect::kSealReplica).badly > 0;
  if (sealed && now.units.replica && !now.title.held_by(now.self) &&
      tried(Effect::kUnsealReplica).well + tried(Effect::kUnsealReplica).badly == 0)
    return effect(Effect::kUnsealReplica);
  return refuse(why);
}

// ---- Running ------------------------------------------------------------------------------------

// Keeper and guest of a VM that this site holds: the vault opens the gate, or does not.
Step Machine::run(const Observed& now) const {
  if (failed_) return run_failed(now);
  if (!did(Effect::kAskMembers) || (did(Effect::kStoreTaken) && last_ == Effect::kStoreTaken))
    return effect(Effect::kAskMembers);
  if (now.units.replica) return effect(Effect::kEndReplica);
  if (!did(Effect::kStartKeeper)) return effect(Effect::kStartKeeper);
  if (now.record.adopt && !did(Effect::kAdopt)) return effect(Effect::kAdopt);
  if (!did(Effect::kStartGuest)) return effect(Effect::kStartGuest);
  if (!now.record.wanted) return effect(Effect::kStoreWanted);
  return done(Done::kRuns);
}

// Nothing of a start that failed is left.
Step Machine::run_failed(const Observed& now) const {
  const Tried& keeper = tried(Effect::kStartKeeper);
  if (keeper.well + keeper.badly == 0 || undone_ || failed_ == Effect::kEndKeeper)
    return refuse(Refusal::kFailed);
  if (now.units.guest && tried(Effect::kKillGuest).badly == 0) return effect(Effect::kKillGuest);
  return effect(Effect::kEndKeeper);
}

Step Machine::start(const Observed& now) const {
  if (did(Effect::kStartGuest)) return run(now);
  if (now.units.guest && !failed_) return refuse(Refusal::kRunsAlready);
  if (now.record.role == Role::kCreating) return refuse(Refusal::kNotMade);
  if (failed_) return run_failed(now);
  if (!did(Effect::kAskMembers)) return effect(Effect::kAskMembers);
  if (now.record.role != Role::kActive || !now.title.held_by(now.self))
    return refuse(Refusal::kNotHolder);
  if (const std::optional<Step> first = join(now)) return *first;
  if (!now.title.rivals.empty()) return refuse(Refusal::kRival);
  const bool held_up =
      std::ranges::any_of(silent_, [&](const SiteId& site) { return now.title.stands_by(site); });
  if (held_up && !did(Effect::kSign)) {
    if (!wish_.without_peer) return refuse(Refusal::kStandbySilent);
    if (late(Effect::kSign, kSilenceLimit, now)) return refuse(Refusal::kFailed);
    if (last_ != Effect::kAskMembers) return effect(Effect::kAskMembers);
    return sign(title::Kind::kGoOn);
  }
  if (last_ == Effect::kSign) return effect(Effect::kAskMembers);
  // A keeper that outlived its QEMU: the next guest must not meet its state.
  if (now.units.keeper && !did(Effect::kStartKeeper)) return effect(Effect::kEndKeeper);
  return run(now);
}

Step Machine::stop(const Observed& now) const {
  if (failed_) return refuse(Refusal::kFailed);
  if (now.units.guest && !did(Effect::kStopGuest)) return effect(Effect::kStopGuest);
  if (now.record.wanted) return effect(Effect::kStoreNotWanted);
  if (now.units.keeper) return effect(Effect::kEndKeeper);
  return done(Done::kStopped);
}

// ---- Protection ---------------------------------------------------------------------------------

Step Machine::protect(const Observed& now) const {
  const SiteId& with = wish_.peer;
  if (now.record.role != Role::kActive || !now.title.held_by(now.self))
    return refuse(Refusal::kNotHolder);
  if (failed_ == Effect::kOffer && protects(now, Way::kOut) &&
      now.protection->state == Protected::kOffered)
    return effect(Effect::kForgetProtection);
  if (failed_) return refuse(Refusal::kFailed);
  // First here, then there: no site holds a replica that the VM's own knows nothing of.
  if (!now.protection) return effect(Effect::kStoreOffered, with);
  if (!did(Effect::kOffer)) {
    if (tried(Effect::kOffer).badly > 0) return refuse(Refusal::kPeerSilent);
    return effect(Effect::kOffer, with);
  }
  const title::Member* member = now.title.head->statement().members.find(with);
  const bool is_member = member != nullptr && member->standing != title::Standing::kMember;
  if (!is_member) {
    if (tried(Effect::kExchange).badly > 0) return refuse(Refusal::kPeerSilent);
    if (!did(Effect::kExchange)) return effect(Effect::kExchange, with);
    if (tried(Effect::kSign).badly > 0) return refuse(Refusal::kFailed);
    return sign(title::Kind::kProtect, with);
  }
  if (now.protection->state != Protected::kStands) return effect(Effect::kStoreProtected, with);
  if (!did(Effect::kStartStream)) return effect(Effect::kStartStream, with);
  return done(Done::kProtected);
}

Step Machine::withdraw(const Observed& now) const {
  if (now.record.role != Role::kActive || !now.title.held_by(now.self))
    return refuse(Refusal::kNotHolder);
  if (failed_) return refuse(Refusal::kFailed);
  if (!protects(now, Way::kOut)) return done(Done::kWithdrawn);
  const SiteId& with = now.protection->peer;
  if (!did(Effect::kEndStream)) return effect(Effect::kEndStream);
  // First here, then there. Until it has resigned it is still the site that may take the VM.
  if (now.protection->state != Protected::kWithdrawing)
    return effect(Effect::kStoreWithdrawing, with);
  if (did(Effect::kAskWithdrawal)) return effect(Effect::kForgetProtection);
  if (tried(Effect::kAskWithdrawal).badly == 0) return effect(Effect::kAskWithdrawal, with);
  // It may have taken the VM, which is for this site to learn.
  if (tried(Effect::kExchange).well + tried(Effect::kExchange).badly == 0)
    return effect(Effect::kExchange, with);
  if (did(Effect::kExchange) || !wish_.without_peer) return done(Done::kStaysThere);
  if (!now.title.head->statement().names(with)) return effect(Effect::kForgetProtection);
  if (late(Effect::kSign, kSilenceLimit, now)) return refuse(Refusal::kFailed);
  if (last_ != Effect::kAskMembers) return effect(Effect::kAskMembers);
  return sign(title::Kind::kExpel, with);
}

}  // namespace hf::lifecycle
