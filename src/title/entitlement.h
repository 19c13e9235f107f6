// Which statement may follow which: who is entitled to sign it, and what it must then say. The same
// rules make a statement (judge.h) and judge one that was learned (chain.h).
#pragma once

#include <optional>

#include "title/refusal.h"
#include "title/statement.h"

namespace hf::title {

// What a statement follows. `beside` and `merged` only where it joins two chains.
struct Before {
  const Statement& follows;
  const Statement* beside = nullptr;
  // Members of both: whoever is one in either, but for those that one of the two expelled. Standby
  // in either is standby: nobody is dropped unasked.
  Members merged = {};
  bool overfull = false;  // they are more than a title has room for: `merged` lacks some

  const Members& members() const { return beside == nullptr ? follows.members : merged; }
};

// The members after `kind` is signed by `issuer` over `before`. `subject`: who is protected, stands
// by, is expelled, is handed the VM or given up to, or is distrusted in a take; else zero.
// Its preconditions are the caller's (asserted): room for one more.
Members members_after(Kind kind, const SiteId& issuer, const SiteId& subject, const Before& before);

// The holder after it: zero after an end.
SiteId holder_after(Kind kind, const SiteId& issuer, const SiteId& subject, const Before& before);

// It counts the changes of holder, as seen from `before.follows`.
Epoch epoch_after(const SiteId& holder, const Before& before);

// Nothing if `next` may stand after `before`. `next` is in form and names these as what it follows;
// create has nothing before it and isn't asked about.
std::optional<Cause> not_entitled(const Statement& next, const Before& before);

}  // namespace hf::title
