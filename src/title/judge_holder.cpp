// Who may become the holder: hand-over, take, go on, and what settles a conflict.
#include <algorithm>

#include "title/judge.h"
#include "title/judged.h"

namespace hf::title {

Judged<Statement> Judge::may_hand_over(const SiteId& to, const OwnLine& own, const Stillness& still,
                                       const Word* word) const {
  HF_JUDGED(may_sign_as_holder());
  if (to == self()) return refuse(Cause::kIsHolder, Action::kNothing, to);
  if (!chain_.title().is_standby(to)) return refuse(Cause::kNotStandby, Action::kProtect, to);
  const auto equal = equal_answer(to);
  HF_JUDGED(equal);
  const Answer& answer = **equal;
  Statement next = draft(Kind::kHandOver, to);
  if (!faults().empty_replica_taken) {
    if (!answer.prepared) return refuse(Cause::kNotPrepared, Action::kPrepareThere, to);
    if (!answer.whole) return refuse(Cause::kPeerNotWhole, Action::kShip, to);
    if (!own.has(answer.line)) return refuse(Cause::kNotOnOurLine, Action::kShip, to);
  }
  // What runs here, or may, is the newest there is; else somebody may have taken it since.
  if (!asking_.run_permitted(chain_.digest(), now_) && !faults().hand_over_unasked) {
    HF_JUDGED(asking_.all_asked(chain_, now_));
  }
  if (!still.still()) return refuse(Cause::kProcessesAlive, Action::kStop, self());
  if (answer.whole && answer.line != own.end) {
    HF_JUDGED(word_fits(word, Act::kHandOver, WordKind::kWritesGivenUp));
    if (word->line != answer.line) return refuse(Cause::kWordOfOther, Action::kGiveWord, to);
    next.word = WordKind::kWritesGivenUp;
  }
  next.line = answer.whole ? answer.line : own.end;
  return checked(next);
}

Judged<void> Judge::nobody_objects(const Word& word) const {
  for (const Member& member : chain_.title().members.all()) {
    if (member.site == self() || faults().not_asked_before_start) continue;
    if (const Answer* answer = asking_.answer(member.site, now_)) {
      if (answer->about != chain_.digest()) {
        return refuse(Cause::kNotAsked, Action::kAsk, member.site);
      }
      const auto passed = [&](const Digest& d) { return chain_.follows(chain_.digest(), d); };
      if ((!answer->head.is_zero() && !passed(answer->head)) ||
          !std::ranges::all_of(answer->rivals, passed)) {
        return refuse(Cause::kPeerOtherHead, Action::kLearn, member.site);
      }
      continue;
    }
    // Not heard is not silent: who can answer does.
    if (!asking_.asked(member.site, chain_.digest(), now_)) {
      return refuse(Cause::kNotAsked, Action::kAsk, member.site);
    }
    if (!asking_.silent(member.site, now_)) {
      return refuse(Cause::kNotAnswered, Action::kAsk, member.site);
    }
    const bool must_be_named =
        member.standing == Standing::kStandby || member.site == chain_.title().holder;
    if (must_be_named && !word.names(member.site)) {
      return refuse(Cause::kWordOfOther, Action::kGiveWord, member.site);
    }
  }
  return {};
}

Judged<Statement> Judge::may_take(const OwnLine& own, const Word* word, uint64_t tombstone) const {
  HF_JUDGED(may_sign_no_rival());
  const Statement& title = chain_.title();
  if (!title.names(self())) return refuse(Cause::kNotMember, Action::kNewVm);
  if (title.holder == self()) return refuse(Cause::kIsHolder, Action::kGoOn);
  if (faults().no_return && !title.is_standby(self())) {
    return refuse(Cause::kNotStandby, Action::kNothing);
  }
  HF_JUDGED(have_line(own));
  const SiteId holder = title.holder;
  const bool distrust = word != nullptr && word->act == Act::kDistrust && !holder.is_zero();
  Statement next = draft(Kind::kTake, distrust ? holder : SiteId{});
  next.line = own.end;
  if (holder.is_zero()) {
    if (wall_.value - std::min(wall_, chain_.ended()).value > tombstone) {
      return refuse(Cause::kTombstoneGone, Action::kNewVm);
    }
    if (word != nullptr) {
      HF_JUDGED(word_fits(word, Act::kTake, WordKind::kSourceIsOff));
      next.word = WordKind::kSourceIsOff;
    }
    HF_JUDGED(nobody_objects(word != nullptr ? *word : Word{}));
    return checked(next);
  }
  next.word = distrust ? WordKind::kDistrusted : WordKind::kSourceIsOff;
  HF_JUDGED(word_fits(word, distrust ? Act::kDistrust : Act::kTake, next.word));
  if (!distrust && !faults().not_asked_before_start &&
      (asking_.answer(holder, now_) != nullptr || !asking_.silent(holder, now_))) {
    return refuse(Cause::kHolderAnswers, Action::kHandOver, holder);
  }
  if (!word->names(holder)) return refuse(Cause::kWordOfOther, Action::kGiveWord, holder);
  HF_JUDGED(line_fits(*word, own));
  if (!distrust) {
    HF_JUDGED(nobody_objects(*word));
  }
  return checked(next);
}

Judged<Statement> Judge::may_go_on(const OwnLine& own, const Word* word) const {
  HF_JUDGED(may_sign_as_holder());
  HF_JUDGED(have_line(own));
  HF_JUDGED(word_fits(word, Act::kGoOn, WordKind::kWithoutPeer));
  HF_JUDGED(line_fits(*word, own));
  HF_JUDGED(nobody_objects(*word));
  const auto members = chain_.title().members.all();
  const bool needed = std::ranges::any_of(members, [&](const Member& member) {
    return member.standing == Standing::kStandby && asking_.answer(member.site, now_) == nullptr;
  });
  if (!needed) return refuse(Cause::kNobodySilent, Action::kStart);
  Statement next = draft(Kind::kGoOn, {});
  next.word = WordKind::kWithoutPeer;
  next.line = own.end;
  return checked(next);
}

Judged<Statement> Judge::may_give_up(const Stillness& still) const {
  HF_JUDGED(may_sign());
  const SignedPtr rival = first_rival();
  if (!rival) return refuse(Cause::kNoRival, Action::kNothing);
  const SiteId mine = chain_.title().holder;
  const SiteId other = rival->statement().holder;
  if (mine != self() && other != self()) {
    return refuse(Cause::kNotHolder, Action::kUseOtherSite, mine.is_zero() ? other : mine);
  }
  if (mine == other) return refuse(Cause::kAlready, Action::kNothing);
  const SiteId to = mine == self() ? other : mine;
  if (to.is_zero()) return refuse(Cause::kEnded, Action::kTakeOver);
  // This site is the rival's holder and gave its own up: both did so. One of them does it again.
  if (mine != self() && self() > mine) return refuse(Cause::kNotCrossed, Action::kUseOtherSite, to);
  if (!chain_.before_joining(rival).members().contains(to)) {
    return refuse(Cause::kExpelled, Action::kTakeOver, to);
  }
  const Answer* answer = asking_.answer(to, now_);
  if (answer == nullptr) return refuse(Cause::kNotAsked, Action::kAsk, to);
  if (answer->in_doubt) return refuse(Cause::kInDoubt, Action::kUseOtherSite, to);
  if (!answer->whole) return refuse(Cause::kPeerNotWhole, Action::kTakeOver, to);
  const auto known = [&](const Digest& digest) {
    return chain_.follows(chain_.digest(), digest) || chain_.follows(rival->digest(), digest);
  };
  if (!known(answer->head) || !std::ranges::all_of(answer->rivals, known)) {
    return refuse(Cause::kPeerOtherHead, Action::kLearn, to);
  }
  if (!still.still()) return refuse(Cause::kProcessesAlive, Action::kStop, self());
  Statement next = draft(Kind::kGiveUp, to, rival);
  next.line = answer->line;
  return checked(next);
}

Judged<Statement> Judge::may_join(const OwnLine& own) const {
  HF_JUDGED(may_sign());
  const SignedPtr rival = first_rival();
  if (!rival) return refuse(Cause::kNoRival, Action::kNothing);
  if (!chain_.holder_is(self())) {
    return refuse(Cause::kNotHolder, Action::kSettle, chain_.title().holder);
  }
  if (rival->statement().holder != self()) {
    return refuse(Cause::kNotHolder, Action::kSettle, rival->statement().holder);
  }
  HF_JUDGED(have_line(own));
  Statement next = draft(Kind::kJoin, {}, rival);
  next.line = own.end;
  return checked(next);
}

Judged<Statement> Judge::may_take_over(const OwnLine& own, const Word* word) const {
  HF_JUDGED(may_sign());
  const SignedPtr rival = first_rival();
  if (!rival) return refuse(Cause::kNoRival, Action::kNothing);
  if (!chain_.title().names(self())) return refuse(Cause::kNotMember, Action::kNewVm);
  if (!chain_.before_joining(rival).members().contains(self())) {
    return refuse(Cause::kExpelled, Action::kNewVm, rival->statement().holder);
  }
  HF_JUDGED(have_line(own));
  const bool distrust = word != nullptr && word->act == Act::kDistrust;
  HF_JUDGED(word_fits(word, distrust ? Act::kDistrust : Act::kTakeOver,
                      distrust ? WordKind::kDistrusted : WordKind::kLostForGood));
  HF_JUDGED(line_fits(*word, own));
  SiteId distrusted;
  for (const SiteId& holder : {chain_.title().holder, rival->statement().holder}) {
    if (holder == self() || holder.is_zero()) continue;
    if (!word->names(holder)) return refuse(Cause::kWordOfOther, Action::kGiveWord, holder);
    if (distrust) {
      distrusted = holder;
    } else if (asking_.answer(holder, now_) == nullptr &&
               !asking_.asked(holder, chain_.digest(), now_)) {
      return refuse(Cause::kNotAsked, Action::kAsk, holder);
    } else if (asking_.answer(holder, now_) != nullptr || !asking_.silent(holder, now_)) {
      return refuse(Cause::kHolderAnswers, Action::kSettle, holder);
    }
  }
  Statement next = draft(Kind::kTake, distrusted, rival);
  next.word = distrust ? WordKind::kDistrusted : WordKind::kLostForGood;
  next.line = own.end;
  return checked(next);
}

}  // namespace hf::title
