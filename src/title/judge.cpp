#include "title/judge.h"

#include <algorithm>

#include "title/judged.h"

namespace hf::title {

bool OwnLine::has(const Line& line) const {
  return line == end || std::ranges::find(holds, line) != holds.end();
}

Statement make_create(const SiteId& site, const Digest& origin, uint32_t start_after, Micros wall) {
  return {.kind = Kind::kCreate,
          .issuer = site,
          .holder = site,
          .epoch = Epoch(1),
          .time = wall,
          .start_after = start_after,
          .origin = origin,
          .members = Members().with(site, Standing::kMember)};
}

Judged<void> Judge::may_sign() const {
  if (chain_.empty()) return refuse(Cause::kNoTitle, Action::kLearn);
  if (chain_.digest() != about_) return refuse(Cause::kOtherHead, Action::kAskWithHead);
  if (chain_.in_doubt()) return refuse(Cause::kInDoubt, Action::kSettleDoubt);
  return {};
}

Judged<void> Judge::may_sign_no_rival() const {
  HF_JUDGED(may_sign());
  if (chain_.has_rivals()) {
    return refuse(Cause::kRival, Action::kSettle, first_rival()->statement().holder);
  }
  return {};
}

Judged<void> Judge::may_sign_as_holder() const {
  HF_JUDGED(may_sign_no_rival());
  if (chain_.title().kind == Kind::kEnd) return refuse(Cause::kEnded, Action::kTake);
  if (!chain_.holder_is(self())) {
    return refuse(Cause::kNotHolder, Action::kUseOtherSite, chain_.title().holder);
  }
  return {};
}

Judged<void> Judge::have_line(const OwnLine& own) const {
  if (faults().empty_replica_taken) return {};
  if (own.end.empty()) return refuse(Cause::kNoLine, Action::kSeed, self());
  if (!own.whole) return refuse(Cause::kLineNotWhole, Action::kShip, self());
  return {};
}

SignedPtr Judge::first_rival() const {
  const auto rivals = chain_.rivals();
  return rivals.empty() ? nullptr : rivals.front();
}

Statement Judge::draft(Kind kind, const SiteId& subject, const SignedPtr& rival) const {
  const Before before = rival ? chain_.before_joining(rival) : Before{.follows = chain_.title()};
  Statement next = chain_.title();
  next.kind = kind;
  next.word = WordKind::kNone;
  next.vm = chain_.vm();
  next.follows = chain_.digest();
  next.beside = rival ? rival->digest() : Digest{};
  next.issuer = self();
  next.holder = holder_after(kind, self(), subject, before);
  next.epoch = epoch_after(next.holder, before);
  next.time = wall_;
  next.origin = {};
  next.members = members_after(kind, self(), subject, before);
  return next;
}

// What is signed here passes what every receiver asks.
Judged<Statement> Judge::checked(Statement next) const {
  // A planted fault makes what is out of form; there is nothing to sign then.
  if (out_of_form(next) != nullptr) return refuse(Cause::kBytesOutOfForm, Action::kNothing);
  const SignedPtr rival = next.beside.is_zero() ? nullptr : chain_.find(next.beside);
  const Before before = rival ? chain_.before_joining(rival) : Before{.follows = chain_.title()};
  if (before.overfull) return refuse(Cause::kTooManyMembers, Action::kUnpairOrEvict);
  if (!chain_.has_room_for(next)) return refuse(Cause::kTooDeep, Action::kCheckpoint);
  HF_ASSERT(!not_entitled(next, before).has_value());
  return next;
}

Judged<void> Judge::word_fits(const Word* word, Act act, WordKind kind) const {
  if (word == nullptr) return refuse(Cause::kWordNeeded, Action::kGiveWord);
  if (word->vm != chain_.vm() || word->head != chain_.digest() || word->act != act ||
      word->kind != kind) {
    return refuse(Cause::kWordOfOther, Action::kGiveWord);
  }
  return {};
}

Judged<void> Judge::line_fits(const Word& word, const OwnLine& own) const {
  if (own.end.position.sequence < word.line.position.sequence) {
    return refuse(Cause::kWordOfOther, Action::kGiveWord);
  }
  return {};
}

Judged<const Answer*> Judge::equal_answer(const SiteId& site) const {
  const Answer* answer = asking_.answer(site, now_);
  if (answer == nullptr) return refuse(Cause::kNotAsked, Action::kAsk, site);
  if (answer->about != chain_.digest()) return refuse(Cause::kNotAsked, Action::kAsk, site);
  if (answer->head != chain_.digest() || !answer->rivals.empty()) {
    return refuse(Cause::kPeerOtherHead, Action::kLearn, site);
  }
  if (answer->in_doubt) return refuse(Cause::kInDoubt, Action::kUseOtherSite, site);
  return answer;
}

Judged<Statement> Judge::may_protect(const SiteId& site) const {
  HF_JUDGED(may_sign_as_holder());
  const Statement& title = chain_.title();
  if (site == self()) return refuse(Cause::kAlready, Action::kNothing, site);
  const Member* member = title.members.find(site);
  if (member != nullptr && member->standing != Standing::kMember) {
    return refuse(Cause::kAlready, Action::kNothing, site);
  }
  if (member == nullptr && title.members.full()) {
    return refuse(Cause::kTooManyMembers, Action::kUnpairOrEvict);
  }
  const Answer* answer = asking_.answer(site, now_);
  if (answer == nullptr) return refuse(Cause::kNotAsked, Action::kAsk, site);
  if (answer->about != chain_.digest()) return refuse(Cause::kNotAsked, Action::kAsk, site);
  if (!answer->head.is_zero() && !chain_.follows(chain_.digest(), answer->head)) {
    return refuse(Cause::kPeerOtherHead, Action::kLearn, site);
  }
  if (!answer->accepts) return refuse(Cause::kNotAccepted, Action::kAcceptThere, site);
  return checked(draft(Kind::kProtect, site));
}

Judged<Statement> Judge::may_stand_by(const SiteId& site, const OwnLine& own) const {
  HF_JUDGED(may_sign_as_holder());
  if (chain_.title().is_standby(site)) return refuse(Cause::kAlready, Action::kNothing, site);
  if (!chain_.title().members.is(site, Standing::kBeingSeeded)) {
    return refuse(Cause::kNotBeingSeeded, Action::kProtect, site);
  }
  const auto answer = equal_answer(site);
  HF_JUDGED(answer);
  Statement next = draft(Kind::kStandBy, site);
  if (!faults().empty_replica_taken) {
    if (!(*answer)->whole) return refuse(Cause::kPeerNotWhole, Action::kShip, site);
    if (!own.has((*answer)->line)) return refuse(Cause::kNotOnOurLine, Action::kShip, site);
  }
  next.line = (*answer)->whole ? (*answer)->line : own.end;
  return checked(next);
}

Judged<Statement> Judge::may_resign() const {
  HF_JUDGED(may_sign_no_rival());
  const Statement& title = chain_.title();
  if (title.kind == Kind::kEnd) return refuse(Cause::kEnded, Action::kNothing);
  if (title.holder == self()) return refuse(Cause::kIsHolder, Action::kHandOver);
  const Member* member = title.members.find(self());
  if (member == nullptr) return refuse(Cause::kNotMember, Action::kNothing);
  if (member->standing == Standing::kMember) return refuse(Cause::kAlready, Action::kNothing);
  return checked(draft(Kind::kResign, {}));
}

Judged<Statement> Judge::may_expel(const SiteId& site, const Word* word) const {
  HF_JUDGED(may_sign());
  if (chain_.title().kind == Kind::kEnd) return refuse(Cause::kEnded, Action::kTake);
  if (!chain_.holder_is(self())) {
    return refuse(Cause::kNotHolder, Action::kUseOtherSite, chain_.title().holder);
  }
  if (site == self()) return refuse(Cause::kIsHolder, Action::kHandOver);
  SignedPtr rival = first_rival();
  const bool settles = rival && rival->statement().holder == site;
  if (rival && !settles) return refuse(Cause::kRival, Action::kSettle, rival->statement().holder);
  if (!settles && !chain_.title().names(site)) {
    return refuse(Cause::kNotMember, Action::kNothing, site);
  }
  if (settles && !chain_.before_joining(rival).members().contains(self())) {
    return refuse(Cause::kExpelled, Action::kNewVm, site);
  }
  Statement next = draft(Kind::kExpel, site, settles ? rival : nullptr);
  next.word = WordKind::kLostForGood;
  if (faults().dropped_unasked && word == nullptr) return checked(next);
  if (word != nullptr && word->act == Act::kDistrust) {
    HF_JUDGED(word_fits(word, Act::kDistrust, WordKind::kDistrusted));
    next.word = WordKind::kDistrusted;
  } else {
    HF_JUDGED(word_fits(word, Act::kExpel, WordKind::kLostForGood));
    if (asking_.answer(site, now_) != nullptr || !asking_.silent(site, now_)) {
      return refuse(Cause::kNotAnswered, Action::kWait, site);
    }
  }
  if (!word->names(site)) return refuse(Cause::kWordOfOther, Action::kGiveWord, site);
  return checked(next);
}

Judged<Statement> Judge::may_set_policy(uint32_t start_after, bool anchored) const {
  HF_JUDGED(may_sign_as_holder());
  if (start_after > kStartAfterMax) return refuse(Cause::kWrongPolicy, Action::kNothing);
  if (start_after == chain_.title().start_after) return refuse(Cause::kAlready, Action::kNothing);
  if (start_after != 0 && !anchored) {
    return refuse(Cause::kPolicyUnanchored, Action::kPolicyWithRisk);
  }
  Statement next = draft(Kind::kPolicy, {});
  next.start_after = start_after;
  return checked(next);
}

Judged<Statement> Judge::may_rewind(const Line& target, const OwnLine& own, const Stillness& still,
                                    bool branch_kept, const Word* word) const {
  HF_JUDGED(may_sign_as_holder());
  if (!still.still()) return refuse(Cause::kProcessesAlive, Action::kStop, self());
  HF_JUDGED(have_line(own));
  if (target.empty() || !own.has(target)) return refuse(Cause::kNoLine, Action::kHandOver);
  HF_JUDGED(may_switch_line(target != own.end, branch_kept));
  Statement next = draft(Kind::kRewind, {});
  if (target != own.end) {
    HF_JUDGED(word_fits(word, Act::kRewind, WordKind::kWritesGivenUp));
    if (word->line != target) return refuse(Cause::kWordOfOther, Action::kGiveWord);
    next.word = WordKind::kWritesGivenUp;
  }
  next.line = target;
  return checked(next);
}

Judged<void> Judge::may_ship(const SiteId& to, const Digest& their_head) const {
  HF_JUDGED(may_sign_as_holder());
  const Member* member = chain_.title().members.find(to);
  if (member == nullptr || member->standing == Standing::kMember) {
    return refuse(Cause::kNotStandby, Action::kProtect, to);
  }
  if (their_head != chain_.digest()) return refuse(Cause::kPeerOtherHead, Action::kLearn, to);
  return {};
}

Judged<void> Judge::may_switch_line(bool loses, bool branch_kept) const {
  if (loses && !branch_kept && !faults().no_branch_kept) {
    return refuse(Cause::kBranchFirst, Action::kKeepBranch, self());
  }
  return {};
}

Judged<Statement> Judge::may_end(const Stillness& still) const {
  HF_JUDGED(may_sign_as_holder());
  if (!still.still()) return refuse(Cause::kProcessesAlive, Action::kStop, self());
  return checked(draft(Kind::kEnd, {}));
}

Judged<Statement> Judge::may_checkpoint() const {
  HF_JUDGED(may_sign_as_holder());
  return refuse(Cause::kNotYet, Action::kNothing);
}

// ---- Running ----

Judged<void> Judge::may_release() const { return may_sign_as_holder(); }

Judged<Permit> Judge::may_open(const OwnLine& own) const {
  HF_JUDGED(may_sign_as_holder());
  HF_JUDGED(have_line(own));
  const Line& line = chain_.title().line;
  if (!line.empty() && !own.has(line) && !faults().empty_replica_taken) {
    return refuse(Cause::kLineNotWhole, Action::kTakeOver, self());
  }
  if (faults().not_asked_before_start) {
    return Permit{.head = chain_.digest(), .until = Instant(now_.value + kAnswerLife)};
  }
  if (auto permit = asking_.handed_to(chain_, now_)) return permit;
  if (auto permit = asking_.taken_back(chain_, now_)) return permit;
  return asking_.all_asked(chain_, now_);
}

Judged<void> Judge::may_return(const Returning& keeper) const {
  HF_JUDGED(may_sign());
  // A conflict stops nothing that runs.
  if (!chain_.holder_is(self())) {
    return refuse(Cause::kNotHolder, Action::kUseOtherSite, chain_.title().holder);
  }
  if (!keeper.same_guest || !chain_.same_tenure(keeper.started_under)) {
    return refuse(Cause::kOtherTenure, Action::kStart);
  }
  return {};
}

Judged<void> Judge::may_settle_doubt(const Word* word) const {
  if (chain_.empty()) return refuse(Cause::kNoTitle, Action::kLearn);
  if (chain_.digest() != about_) return refuse(Cause::kOtherHead, Action::kAskWithHead);
  for (const Member& member : chain_.title().members.all()) {
    if (member.site == self()) continue;
    const Answer* answer = asking_.answer(member.site, now_);
    if (answer != nullptr && answer->about == chain_.digest()) {
      // The answer alone is not what it knows: a link may have kept the statements back.
      const auto known = [&](const Digest& d) { return chain_.find(d) != nullptr; };
      if ((answer->head.is_zero() || known(answer->head)) &&
          std::ranges::all_of(answer->rivals, known)) {
        continue;
      }
      if (word == nullptr) return refuse(Cause::kPeerOtherHead, Action::kLearn, member.site);
    }
    if (word == nullptr) return refuse(Cause::kNotAnswered, Action::kAsk, member.site);
    HF_JUDGED(word_fits(word, Act::kSettleDoubt, WordKind::kLostForGood));
    if (!word->names(member.site)) {
      return refuse(Cause::kWordOfOther, Action::kGiveWord, member.site);
    }
  }
  return {};
}

Judged<void> Judge::may_let_go() const {
  if (chain_.empty()) return refuse(Cause::kNoTitle, Action::kNothing);
  if (chain_.digest() != about_) return refuse(Cause::kOtherHead, Action::kAskWithHead);
  for (const SignedPtr& rival : chain_.rivals()) {
    if (chain_.expelled_by(rival->digest(), self())) return {};
  }
  return refuse(chain_.has_rivals() ? Cause::kRival : Cause::kNoRival,
                chain_.has_rivals() ? Action::kSettle : Action::kNothing);
}

}  // namespace hf::title
