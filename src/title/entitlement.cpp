#include "title/entitlement.h"

#include <algorithm>

namespace hf::title {
namespace {

Members set_if_in(const Members& members, const SiteId& site, Standing standing) {
  return members.contains(site) ? members.with(site, standing) : members;
}

// Both holders leave their standing; who takes may distrust one of them.
Members after_take(const SiteId& issuer, const SiteId& distrusted, const Before& before) {
  Members members = set_if_in(before.members(), before.follows.holder, Standing::kMember);
  if (before.beside != nullptr) {
    members = set_if_in(members, before.beside->holder, Standing::kMember);
  }
  if (!distrusted.is_zero()) members = members.without(distrusted);
  return set_if_in(members, issuer, Standing::kMember);
}

bool holds(const SiteId& site, const Before& before) {
  return before.follows.holder == site ||
         (before.beside != nullptr && before.beside->holder == site);
}

// The site that `next` is about, read off what it changes; zero if there is none, or more than one
// could be meant: then members_after() won't come to what it says.
SiteId subject_of(const Statement& next, const Before& before) {
  const Members& was = before.members();
  switch (next.kind) {
    case Kind::kHandOver:
    case Kind::kGiveUp:
      return next.holder;
    case Kind::kProtect:
      for (const Member& member : next.members.all()) {
        if (member.standing == Standing::kBeingSeeded &&
            !was.is(member.site, Standing::kBeingSeeded)) {
          return member.site;
        }
      }
      return {};
    case Kind::kStandBy:
      for (const Member& member : next.members.all()) {
        if (member.standing == Standing::kStandby && !was.is(member.site, Standing::kStandby)) {
          return member.site;
        }
      }
      return {};
    case Kind::kExpel:
    case Kind::kTake:
      for (const Member& member : was.all()) {
        if (!next.members.contains(member.site)) return member.site;
      }
      return {};
    default:
      return {};
  }
}

bool issuer_entitled(const Statement& next, const Before& before, const SiteId& subject) {
  const SiteId& issuer = next.issuer;
  const Statement& last = before.follows;
  switch (next.kind) {
    case Kind::kCreate:
      return false;
    case Kind::kResign:
      return last.is_standby(issuer) || last.members.is(issuer, Standing::kBeingSeeded);
    case Kind::kTake:
      if (!last.names(issuer) || (last.holder == issuer && before.beside == nullptr)) return false;
      // The title's own policy is a standby's to act on.
      if (next.word == WordKind::kStartPolicy && !last.is_standby(issuer)) return false;
      // On nobody's word only what nobody holds.
      return next.word != WordKind::kNone || last.holder.is_zero();
    case Kind::kGiveUp:
      return holds(issuer, before) && holds(subject, before) && subject != issuer;
    case Kind::kJoin:
      return last.holder == issuer && before.beside->holder == issuer;
    default:
      return last.holder == issuer;
  }
}

bool subject_fits(const Statement& next, const Before& before, const SiteId& subject) {
  const Members& was = before.members();
  switch (next.kind) {
    case Kind::kProtect:
      return !subject.is_zero() && !was.is(subject, Standing::kStandby) && subject != next.issuer &&
             (was.contains(subject) || !was.full());
    case Kind::kStandBy:
      return was.is(subject, Standing::kBeingSeeded);
    case Kind::kHandOver:
      return was.is(subject, Standing::kStandby);
    case Kind::kExpel:
      if (subject == next.issuer) return false;
      // Beside a rival: that of who is expelled, who may be out already by the line that goes on.
      if (before.beside != nullptr) return subject.is_zero() || before.beside->holder == subject;
      return !subject.is_zero();
    case Kind::kTake:
      if (next.word != WordKind::kDistrusted) return subject.is_zero();
      // Beside a rival: it may be out already by the line that goes on.
      if (subject.is_zero()) return before.beside != nullptr;
      return holds(subject, before) && subject != next.issuer;
    default:
      return true;
  }
}

bool moves_line(Kind kind) {
  switch (kind) {
    case Kind::kProtect:
    case Kind::kStandBy:
    case Kind::kRewind:
    case Kind::kHandOver:
    case Kind::kTake:
    case Kind::kGoOn:
    case Kind::kGiveUp:
    case Kind::kJoin:
      return true;
    default:
      return false;
  }
}

}  // namespace

Members members_after(Kind kind, const SiteId& issuer, const SiteId& subject,
                      const Before& before) {
  const Members& was = before.members();
  switch (kind) {
    case Kind::kProtect:
      return was.with(subject, Standing::kBeingSeeded);
    case Kind::kStandBy:
      return was.with(subject, Standing::kStandby);
    case Kind::kResign:
      return was.with(issuer, Standing::kMember);
    case Kind::kExpel:
      // The one whose rival it ends too; where its line named this site otherwise, that ends.
      return set_if_in(was.without(subject), issuer, Standing::kMember);
    case Kind::kHandOver:
      return was.with(subject, Standing::kMember).with(issuer, Standing::kStandby);
    case Kind::kTake:
      return after_take(issuer, subject, before);
    case Kind::kGiveUp:
      return set_if_in(set_if_in(was, subject, Standing::kMember), issuer, Standing::kStandby);
    case Kind::kJoin:
      return set_if_in(was, issuer, Standing::kMember);
    default:
      return was;
  }
}

SiteId holder_after(Kind kind, const SiteId& issuer, const SiteId& subject, const Before& before) {
  switch (kind) {
    case Kind::kHandOver:
    case Kind::kGiveUp:
      return subject;
    case Kind::kTake:
      return issuer;
    case Kind::kEnd:
      return {};
    default:
      return before.follows.holder;
  }
}

Epoch epoch_after(const SiteId& holder, const Before& before) {
  Epoch epoch = before.follows.epoch;
  if (before.beside != nullptr) epoch = std::max(epoch, before.beside->epoch);
  return holder == before.follows.holder ? epoch : epoch.next();
}

std::optional<Cause> not_entitled(const Statement& next, const Before& before) {
  HF_ASSERT(next.kind != Kind::kCreate && (next.beside.is_zero() == (before.beside == nullptr)));
  // Whoever found no room would be dropped unasked.
  if (before.overfull) return Cause::kTooManyMembers;
  const SiteId subject = subject_of(next, before);
  if (!issuer_entitled(next, before, subject)) return Cause::kNotEntitled;
  if (!subject_fits(next, before, subject)) return Cause::kWrongMembers;
  if (next.members != members_after(next.kind, next.issuer, subject, before)) {
    return Cause::kWrongMembers;
  }
  if (next.holder != holder_after(next.kind, next.issuer, subject, before)) {
    return Cause::kWrongHolder;
  }
  // Compared before it is counted on: what goes on from the bound would be out of form.
  if (next.epoch != epoch_after(next.holder, before)) return Cause::kWrongEpoch;
  const bool sets_policy = next.kind == Kind::kPolicy;
  if ((next.start_after != before.follows.start_after) != sets_policy) return Cause::kWrongPolicy;
  if (next.word == WordKind::kStartPolicy && before.follows.start_after == 0) {
    return Cause::kWrongPolicy;
  }
  if (next.line != before.follows.line && !moves_line(next.kind)) return Cause::kWrongLine;
  return std::nullopt;
}

}  // namespace hf::title
