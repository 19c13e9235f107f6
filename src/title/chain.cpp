#include "title/chain.h"

#include <algorithm>

namespace hf::title {

namespace {
constexpr uint64_t kWhole = 1'000'000;  // of a sender's budget: one statement
}

const SignedPtr& Chain::head() const {
  HF_ASSERT(head_ >= 0);
  return nodes_[static_cast<size_t>(head_)].statement;
}

std::vector<SignedPtr> Chain::rivals() const {
  std::vector<SignedPtr> out;
  out.reserve(rivals_.size());
  for (const int32_t rival : rivals_) out.push_back(nodes_[static_cast<size_t>(rival)].statement);
  std::ranges::sort(out, {}, [](const SignedPtr& s) { return s->digest(); });
  return out;
}

int32_t Chain::index(const Digest& digest) const {
  const auto key = [this](int32_t at) -> const Digest& {
    return nodes_[static_cast<size_t>(at)].statement->digest();
  };
  const auto found = std::ranges::lower_bound(by_digest_, digest, {}, key);
  return found != by_digest_.end() && key(*found) == digest ? *found : -1;
}

SignedPtr Chain::find(const Digest& digest) const {
  const int32_t at = index(digest);
  return at < 0 ? nullptr : nodes_[static_cast<size_t>(at)].statement;
}

// All that `of` follows, itself included. Each statement is visited once.
std::vector<bool> Chain::ancestry(int32_t of) const {
  std::vector<bool> in(nodes_.size(), false);
  if (of < 0) return in;
  in[static_cast<size_t>(of)] = true;
  // What a statement follows lies before it: one pass backwards meets every path.
  for (auto at = static_cast<size_t>(of) + 1; at-- > 0;) {
    if (!in[at]) continue;
    if (nodes_[at].follows >= 0) in[static_cast<size_t>(nodes_[at].follows)] = true;
    if (nodes_[at].beside >= 0) in[static_cast<size_t>(nodes_[at].beside)] = true;
  }
  return in;
}

bool Chain::follows_at(int32_t later, int32_t earlier) const {
  if (later < 0 || earlier < 0 || earlier > later) return false;
  if (later == earlier) return true;
  // The usual case without a set: a line without joins.
  int32_t at = later;
  while (at > earlier && nodes_[static_cast<size_t>(at)].beside < 0) {
    at = nodes_[static_cast<size_t>(at)].follows;
  }
  if (at <= earlier) return at == earlier;
  return ancestry(at)[static_cast<size_t>(earlier)];
}

bool Chain::counts_as_following(int32_t later, int32_t earlier) const {
  if (faults_.number_instead_of_ancestry && later >= 0 && earlier >= 0) {
    const Epoch a = nodes_[static_cast<size_t>(later)].statement->statement().epoch;
    const Epoch b = nodes_[static_cast<size_t>(earlier)].statement->statement().epoch;
    if (a != b) return a > b;
  }
  return follows_at(later, earlier);
}

bool Chain::follows(const Digest& later, const Digest& earlier) const {
  return follows_at(index(later), index(earlier));
}

bool Chain::was_member(int32_t at, const SiteId& site) const {
  const std::vector<bool> in = ancestry(at);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (in[i] && nodes_[i].statement->statement().names(site)) return true;
  }
  return false;
}

bool Chain::names(int32_t at, const SiteId& site) const {
  return at >= 0 && nodes_[static_cast<size_t>(at)].statement->statement().names(site);
}

bool Chain::dropped(const std::vector<bool>& in, const std::vector<bool>& than,
                    const SiteId& site) const {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!in[i] || than[i] || names(static_cast<int32_t>(i), site)) continue;
    if (names(nodes_[i].follows, site) || names(nodes_[i].beside, site)) return true;
  }
  return false;
}

bool Chain::issuer_is_out(int32_t at) const {
  const SiteId& issuer = nodes_[static_cast<size_t>(at)].statement->statement().issuer;
  return !names(head_, issuer) && dropped(ancestry(head_), ancestry(at), issuer);
}

bool Chain::expelled(const SiteId& site) const {
  return !empty() && !title().names(site) && was_member(head_, site);
}

bool Chain::expelled_by(const Digest& statement, const SiteId& site) const {
  const int32_t at = index(statement);
  return at >= 0 && !nodes_[static_cast<size_t>(at)].statement->statement().names(site) &&
         was_member(at, site);
}

bool Chain::same_tenure(const Digest& since) const {
  const int32_t start = index(since);
  if (start < 0) return false;
  int32_t at = head_;
  while (at > start) {
    const Node& node = nodes_[static_cast<size_t>(at)];
    const Statement& s = node.statement->statement();
    const auto holder_at = [&](int32_t of) {
      return nodes_[static_cast<size_t>(of)].statement->statement().holder;
    };
    // A holder that takes over a rival goes on with its own line; and so does the one to which the
    // other gives up.
    if (s.kind == Kind::kGiveUp) {
      if (node.beside < 0 || !follows_at(node.beside, start) || holder_at(node.beside) != s.holder)
        return false;
      at = node.beside;
      continue;
    }
    const bool own =
        s.kind == Kind::kTake && node.follows >= 0 && holder_at(node.follows) == s.holder;
    const bool decree = s.kind == Kind::kRewind || (s.kind == Kind::kTake && !own) ||
                        s.kind == Kind::kGoOn || s.kind == Kind::kHandOver || s.kind == Kind::kEnd;
    if (decree) return false;
    at = node.follows;
  }
  return at == start;
}

Before Chain::before(int32_t follows, int32_t beside) const {
  HF_ASSERT(follows >= 0);
  const Statement& first = nodes_[static_cast<size_t>(follows)].statement->statement();
  if (beside < 0) return {.follows = first};
  const Statement& second = nodes_[static_cast<size_t>(beside)].statement->statement();
  // Who is out on one side is out, if that side put it out since the two parted.
  const std::vector<bool> ours = ancestry(follows);
  const std::vector<bool> theirs = ancestry(beside);
  Members merged = first.members;
  bool overfull = false;
  for (const Member& member : first.members.all()) {
    if (!second.names(member.site) && dropped(theirs, ours, member.site)) {
      merged = merged.without(member.site);
    }
  }
  for (const Member& member : second.members.all()) {
    const bool in = merged.contains(member.site);
    if (!in && (first.names(member.site) || dropped(ours, theirs, member.site))) continue;
    if (!in && merged.full()) {
      overfull = true;
      continue;
    }
    if (member.standing == Standing::kStandby) {
      merged = merged.with(member.site, Standing::kStandby);
    } else if (!in) {
      merged = merged.with(member.site, Standing::kMember);
    }
  }
  return {.follows = first, .beside = &second, .merged = merged, .overfull = overfull};
}

Before Chain::before_joining(const SignedPtr& rival) const {
  const int32_t at = index(rival->digest());
  HF_ASSERT(std::ranges::find(rivals_, at) != rivals_.end());
  return before(head_, at);
}

int32_t Chain::insert(const SignedPtr& statement, int32_t follows, int32_t beside) {
  const auto at = static_cast<int32_t>(nodes_.size());
  HF_ASSERT(follows < at && beside < at);
  const auto place = std::ranges::lower_bound(
      by_digest_, statement->digest(), {}, [this](int32_t i) -> const Digest& {
        return nodes_[static_cast<size_t>(i)].statement->digest();
      });
  by_digest_.insert(place, at);
  nodes_.push_back({.statement = statement, .follows = follows, .beside = beside});
  return at;
}

std::optional<Cause> Chain::wrong_create(const Signed& statement) const {
  if (!empty() || statement.vm() != vm_) return Cause::kForeignCreate;
  const Statement& s = statement.statement();
  if (s.holder != s.issuer) return Cause::kWrongHolder;
  if (s.members != Members().with(s.issuer, Standing::kMember)) return Cause::kWrongMembers;
  if (s.epoch != Epoch(1)) return Cause::kWrongEpoch;
  return std::nullopt;
}

std::optional<Cause> Chain::wrong_step(const Signed& statement, int32_t follows,
                                       int32_t beside) const {
  if (beside >= 0 && (follows_at(follows, beside) || follows_at(beside, follows))) {
    return Cause::kNotTwoChains;
  }
  if (faults_.entitlement_not_checked) return std::nullopt;
  return not_entitled(statement.statement(), before(follows, beside));
}

std::optional<Cause> Chain::over_bounds(const Statement& next, int32_t follows,
                                        int32_t beside) const {
  size_t bound = kDepthMax;
  if (follows >= 0) {
    const Statement& last = nodes_[static_cast<size_t>(follows)].statement->statement();
    if (last.issuer != next.issuer) bound += kDepthReserve;
  }
  std::vector<bool> before = ancestry(follows);
  if (beside >= 0) {
    const std::vector<bool> more = ancestry(beside);
    for (size_t i = 0; i < before.size(); ++i) before[i] = before[i] || more[i];
  }
  const auto depth = static_cast<size_t>(std::ranges::count(before, true));
  return depth < bound ? std::nullopt : std::optional(Cause::kTooDeep);
}

// Why a statement that does not follow the head is not kept as a rival.
std::optional<Cause> Chain::no_rival(int32_t at) const {
  const Statement& next = nodes_[static_cast<size_t>(at)].statement->statement();
  const std::vector<bool> headward = ancestry(head_);
  size_t aside = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    aside += headward[i] ? 0 : 1;
  }
  if (aside > kForkMax) return Cause::kTooManyRivals;
  if (issuer_is_out(at)) return Cause::kExpelled;
  size_t stay = 0;
  for (const int32_t rival : rivals_) {
    if (counts_as_following(at, rival)) continue;
    ++stay;
    const Statement& other = nodes_[static_cast<size_t>(rival)].statement->statement();
    if (other.issuer == next.issuer) return Cause::kRivalOfIssuer;
  }
  return stay < kRivalsMax ? std::nullopt : std::optional(Cause::kTooManyRivals);
}

Chain::Sender& Chain::sender(const SiteId& from, Instant now) {
  auto found = std::ranges::find(senders_, from, &Sender::site);
  if (found == senders_.end()) {
    if (senders_.size() == kSendersMax) {
      // The one that has been quiet the longest.
      senders_.erase(std::ranges::min_element(senders_, {}, &Sender::at));
    }
    senders_.push_back({.site = from, .budget = kVainBurst * kWhole, .at = now});
    return senders_.back();
  }
  const uint64_t passed = now > found->at ? now.value - found->at.value : 0;
  const uint64_t full = kVainBurst * kWhole;
  // A millionth a microsecond and statement a second; full after so long, whatever the clock says.
  found->budget = passed > full ? full : std::min(full, found->budget + passed * kVainPerSecond);
  found->at = std::max(found->at, now);
  return *found;
}

Outcome Chain::learn_one(const SignedPtr& statement, const SiteId& from, const Verifier& verifier,
                         Instant now, Micros wall, Learned& learned) {
  const Statement& s = statement->statement();
  const auto refused = [&](Cause cause) {
    if (learned.refused.size() < kBundleMax) {
      learned.refused.push_back({statement->digest(), cause});
    }
    return Outcome::kRefused;
  };
  if (index(statement->digest()) >= 0) return Outcome::kOld;
  if (s.kind != Kind::kCreate && s.vm != vm_) return refused(Cause::kForeignVm);
  int32_t follows = -1;
  int32_t beside = -1;
  if (s.kind != Kind::kCreate) {
    follows = index(s.follows);
    beside = s.beside.is_zero() ? -1 : index(s.beside);
    if (follows < 0 && learned.wanted.size() < kWantedMax) learned.wanted.push_back(s.follows);
    if (!s.beside.is_zero() && beside < 0 && learned.wanted.size() < kWantedMax) {
      learned.wanted.push_back(s.beside);
    }
    if (follows < 0 || (!s.beside.is_zero() && beside < 0)) return Outcome::kUnknown;
  }
  // From here on it costs, at last a signature: what came to nothing is counted.
  Sender& account = sender(from, now);
  if (account.budget < kWhole) return refused(Cause::kTooFast);
  account.budget -= kWhole;
  const auto wrong =
      s.kind == Kind::kCreate ? wrong_create(*statement) : wrong_step(*statement, follows, beside);
  if (wrong) return refused(*wrong);
  if (const auto over = over_bounds(s, follows, beside)) return refused(*over);
  if (!verifier.knows(s.issuer)) return refused(Cause::kUnknownIssuer);
  if (!statement->verify(verifier)) return refused(Cause::kBadSignature);
  const int32_t at = insert(statement, follows, beside);
  if (s.issuer == self_) learned.doubt = in_doubt_ = true;
  // What is refused now stays until the bundle's end: a later one may follow both it and the head.
  if (head_ >= 0 && !counts_as_following(at, head_) && !counts_as_following(head_, at)) {
    if (const auto not_kept = no_rival(at)) return refused(*not_kept);
  }
  const Outcome outcome = place(at, wall, learned);
  if (outcome != Outcome::kOld) account.budget += kWhole;
  return outcome;
}

Outcome Chain::place(int32_t at, Micros wall, Learned& learned) {
  if (counts_as_following(head_, at)) return Outcome::kOld;
  if (head_ < 0 || counts_as_following(at, head_)) {
    become_head(at, wall, learned);
    return Outcome::kHead;
  }
  for (const int32_t rival : rivals_) {
    if (counts_as_following(rival, at)) return Outcome::kOld;
  }
  std::erase_if(rivals_, [&](int32_t rival) { return counts_as_following(at, rival); });
  rivals_.push_back(at);
  learned.rivals_changed = true;
  return Outcome::kRival;
}

void Chain::become_head(int32_t at, Micros wall, Learned& learned) {
  const bool was_holder = holder_is(self_);
  head_ = at;
  const auto gone = std::erase_if(rivals_, [&](int32_t rival) {
    return counts_as_following(at, rival) || issuer_is_out(rival);
  });
  learned.head_changed = true;
  learned.rivals_changed |= gone > 0;
  learned.fence |= was_holder && !holder_is(self_);
  if (title().kind != Kind::kEnd) {
    ended_ = {};
  } else {
    ended_ = wall;
  }
}

Learned Chain::learn(std::span<const SignedPtr> bundle, const SiteId& from,
                     const Verifier& verifier, Instant now, Micros wall) {
  Learned learned;
  if (bundle.size() > kBundleMax) {
    learned.last = Outcome::kRefused;
    learned.refused.push_back({.digest = {}, .cause = Cause::kTooManyAtOnce});
    return learned;
  }
  for (const SignedPtr& statement : bundle) {
    learned.last = learn_one(statement, from, verifier, now, wall, learned);
  }
  if (!learned.refused.empty() || learned.changed()) prune();
  return learned;
}

bool Chain::add_own(const SignedPtr& own, Micros wall) {
  const Statement& s = own->statement();
  HF_ASSERT(s.issuer == self_ && index(own->digest()) < 0);
  int32_t beside = -1;
  if (s.kind == Kind::kCreate) {
    HF_ASSERT(!wrong_create(*own));
  } else {
    HF_ASSERT(s.vm == vm_ && s.follows == digest());
    beside = s.beside.is_zero() ? -1 : index(s.beside);
    HF_ASSERT((beside < 0) == s.beside.is_zero());
    HF_ASSERT(!wrong_step(*own, head_, beside));
  }
  Learned learned;
  become_head(insert(own, head_, beside), wall, learned);
  prune();
  return learned.fence;
}

// Drops what neither head nor rivals follow.
void Chain::prune() {
  std::vector<bool> keep = ancestry(head_);
  for (const int32_t rival : rivals_) {
    const std::vector<bool> more = ancestry(rival);
    for (size_t i = 0; i < keep.size(); ++i) keep[i] = keep[i] || more[i];
  }
  if (std::ranges::find(keep, false) == keep.end()) return;
  std::vector<int32_t> moved(nodes_.size(), -1);
  std::vector<Node> nodes;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!keep[i]) continue;
    moved[i] = static_cast<int32_t>(nodes.size());
    Node node = nodes_[i];
    if (node.follows >= 0) node.follows = moved[static_cast<size_t>(node.follows)];
    if (node.beside >= 0) node.beside = moved[static_cast<size_t>(node.beside)];
    nodes.push_back(std::move(node));
  }
  std::vector<int32_t> by_digest;
  for (const int32_t at : by_digest_) {
    if (keep[static_cast<size_t>(at)]) by_digest.push_back(moved[static_cast<size_t>(at)]);
  }
  nodes_ = std::move(nodes);
  by_digest_ = std::move(by_digest);
  if (head_ >= 0) head_ = moved[static_cast<size_t>(head_)];
  for (int32_t& rival : rivals_) rival = moved[static_cast<size_t>(rival)];
}

std::vector<SignedPtr> Chain::statements() const {
  std::vector<SignedPtr> out;
  out.reserve(nodes_.size());
  for (const Node& node : nodes_) out.push_back(node.statement);
  return out;
}

std::vector<SignedPtr> Chain::lacking(std::span<const Digest> known) const {
  std::vector<bool> has(nodes_.size(), false);
  for (const Digest& digest : known) {
    const std::vector<bool> more = ancestry(index(digest));
    for (size_t i = 0; i < has.size(); ++i) has[i] = has[i] || more[i];
  }
  std::vector<SignedPtr> out;
  for (size_t i = 0; i < nodes_.size() && out.size() < kBundleMax; ++i) {
    if (!has[i]) out.push_back(nodes_[i].statement);
  }
  return out;
}

std::vector<Digest> Chain::ancestors() const {
  std::vector<Digest> out;
  int32_t at = head_;
  for (size_t back = 1; back <= kDepthMax && at >= 0; back *= 2) {
    for (size_t step = back == 1 ? 1 : back / 2; step > 0 && at >= 0; --step) {
      at = nodes_[static_cast<size_t>(at)].follows;
    }
    if (at >= 0) out.push_back(nodes_[static_cast<size_t>(at)].statement->digest());
  }
  HF_ASSERT(out.size() <= kAncestorsMax);
  return out;
}

std::optional<RefusedStatement> Chain::verify(const Verifier& verifier) const {
  for (const Node& node : nodes_) {
    const Signed& statement = *node.statement;
    const auto wrong = [&](Cause cause) {
      return RefusedStatement{.digest = statement.digest(), .cause = cause};
    };
    if (!verifier.knows(statement.statement().issuer)) return wrong(Cause::kUnknownIssuer);
    if (!statement.verify(verifier)) return wrong(Cause::kBadSignature);
    if (node.follows < 0) continue;
    if (const auto step = wrong_step(statement, node.follows, node.beside)) return wrong(*step);
  }
  return std::nullopt;
}

bool may_exchange(const Statement& mine, const SiteId& self, const Statement& theirs,
                  const SiteId& other) {
  return mine.names(other) || theirs.names(self);
}

}  // namespace hf::title
