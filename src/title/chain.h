// Chain: what one site knows of one VM's title: statements by digest, the head, the rivals.
//
// What follows the head becomes the head. Ancestry decides, never a number. What neither follows
// the head nor is followed by it is a rival: kept, one an issuer, shown, and passed on; it stops
// nothing that runs, and nothing but what settles it is signed while there is one (judge.h).
//
// Sans-I/O, one thread, copyable. The vault stores encode() in one transaction with the VM's
// freshness *before* anything else follows from a change.
//
// All of it may come from a hostile site. Bounds: kBundleMax statements at a time, kDepthMax in
// what any one of them follows, kForkMax beside what the head follows (so forks take no room from
// the head's line), kRivalsMax rivals, and what a sender may send in vain (kVainBurst). A cycle
// can't be made, since a statement names what it follows by digest.
#pragma once

#include <vector>

#include "title/entitlement.h"
#include "title/faults.h"
#include "title/refusal.h"
#include "title/signing.h"

namespace hf::title {

inline constexpr size_t kBundleMax = 256;
inline constexpr size_t kDepthMax = 4096;
// Beyond it, for whoever follows another issuer's statement: so no issuer can fill the chain to
// where nobody may take the VM from it any more.
inline constexpr size_t kDepthReserve = 64;
inline constexpr size_t kForkMax = 1024;
inline constexpr size_t kRivalsMax = 16;
inline constexpr size_t kWantedMax = 2 * kRivalsMax;
inline constexpr uint32_t kVainBurst = 512;  // statements that are checked and come to nothing
inline constexpr uint32_t kVainPerSecond = 8;
inline constexpr size_t kSendersMax = 32;
inline constexpr size_t kStatementsMax = kDepthMax + kDepthReserve + kForkMax;
inline constexpr size_t kChainSizeMax =
    128 + kRivalsMax * 32 + kStatementsMax * (4 + kSignedSizeMax);
inline constexpr size_t kAncestorsMax = 13;  // 1, 2, 4 … 4096 behind the head
inline constexpr size_t kBundleSizeMax = 16 + kBundleMax * (4 + kSignedSizeMax);

// Microseconds of a clock that never goes back and runs through suspension (CLOCK_BOOTTIME).
using Instant = StrongNumber<struct InstantTag, uint64_t>;

enum class Outcome : uint8_t {
  kOld,      // known, or followed by what is
  kHead,     // it is the head now
  kRival,    // kept beside the head
  kUnknown,  // what it follows isn't known here: Learned::wanted
  kRefused,  // Learned::refused
};

struct RefusedStatement {
  Digest digest;
  Cause cause = Cause::kNotEntitled;
};

struct Learned {
  bool head_changed = false;
  bool rivals_changed = false;
  // The head names another holder than the one before did, which was this site: fence at once,
  // never behind a job.
  bool fence = false;
  bool doubt = false;                     // a statement of this site's own came that it lacked
  Outcome last = Outcome::kOld;           // of the bundle's last statement
  std::vector<Digest> wanted;             // ancestors to fetch, at most kWantedMax
  std::vector<RefusedStatement> refused;  // at most kBundleMax
  bool changed() const { return head_changed || rivals_changed || doubt; }
};

class Chain {
 public:
  // Nothing is known yet. `self`: the site that keeps it.
  Chain(const VmId& vm, const SiteId& self, const Faults& faults = {})
      : vm_(vm), self_(self), faults_(faults) {}

  const VmId& vm() const { return vm_; }
  const SiteId& self() const { return self_; }
  const Faults& faults() const { return faults_; }
  bool empty() const { return head_ < 0; }
  size_t size() const { return nodes_.size(); }
  // Not empty (asserted), as for title() and digest().
  const SignedPtr& head() const;
  const Statement& title() const { return head()->statement(); }
  const Digest& digest() const { return head()->digest(); }
  std::vector<SignedPtr> rivals() const;  // ascending by digest
  bool has_rivals() const { return !rivals_.empty(); }
  SignedPtr find(const Digest& digest) const;  // null: not known
  // `later` is `earlier`, or comes after it; both known, else false.
  bool follows(const Digest& later, const Digest& earlier) const;
  bool holder_is(const SiteId& site) const { return !empty() && title().holder == site; }
  // It was a member in what the head follows and is none any more.
  bool expelled(const SiteId& site) const;
  // Likewise by that statement, known or not (then it isn't).
  bool expelled_by(const Digest& statement, const SiteId& site) const;
  // There is room for what this site would sign over the head: beyond kDepthMax nobody would learn
  // it, and this site's own vault would not load it.
  bool has_room_for(const Statement& next) const {
    return !over_bounds(next, head_, next.beside.is_zero() ? -1 : index(next.beside));
  }
  // From `since` to the head nothing changed the holder or the line by decree: a guest that was
  // started under `since` runs under the head too.
  bool same_tenure(const Digest& since) const;
  // What joining the head with the rival starts from; `rival` is one (asserted).
  Before before_joining(const SignedPtr& rival) const;

  // Oldest first. `from`: who sent it, for bounding only; nothing is believed of it. The caller
  // stores the chain if changed().
  Learned learn(std::span<const SignedPtr> bundle, const SiteId& from, const Verifier& verifier,
                Instant now, Micros wall);
  // What this site's vault has just signed over the head, or its create (asserted). True if it
  // gave the VM away: fence, as for Learned.
  bool add_own(const SignedPtr& own, Micros wall);

  // This vault signs and releases nothing until every member has answered, or a word.
  bool in_doubt() const { return in_doubt_; }
  void doubt() { in_doubt_ = true; }
  void clear_doubt() { in_doubt_ = false; }

  // When the head, an end, was learned (wall clock); zero: it is none.
  Micros ended() const { return ended_; }

  // What a site that knows `known` lacks of head and rivals, oldest first, at most kBundleMax; so
  // asking again with what came leads to the whole.
  std::vector<SignedPtr> lacking(std::span<const Digest> known) const;
  // Some of what the head follows, ever further back, at most kAncestorsMax: whoever does not know
  // head and rivals finds in them where the two sites' chains part.
  std::vector<Digest> ancestors() const;
  // Everything, oldest first.
  std::vector<SignedPtr> statements() const;
  // Checks each signature and each step anew, for showing. The first that is wrong.
  std::optional<RefusedStatement> verify(const Verifier& verifier) const;

  Bytes encode() const;  // at most kChainSizeMax
  // What encode() made; signatures aren't checked (the vault seals what it stores), everything else
  // is. kCorrupt, kUnsupported.
  static Result<Chain> decode(ByteSpan bytes, const SiteId& self, const Faults& faults = {});

 private:
  struct Node {
    SignedPtr statement;
    int32_t follows = -1;  // nodes: always before this one
    int32_t beside = -1;
  };
  struct Sender {
    SiteId site;
    uint64_t budget = 0;  // millionths of a statement
    Instant at;
  };

  int32_t index(const Digest& digest) const;
  bool follows_at(int32_t later, int32_t earlier) const;
  bool counts_as_following(int32_t later, int32_t earlier) const;
  std::vector<bool> ancestry(int32_t of) const;
  bool was_member(int32_t at, const SiteId& site) const;
  bool names(int32_t at, const SiteId& site) const;
  // Something that is in `in` and not in `than` dropped the site.
  bool dropped(const std::vector<bool>& in, const std::vector<bool>& than,
               const SiteId& site) const;
  // Its issuer is out by the head, and it does not follow what put it out.
  bool issuer_is_out(int32_t at) const;
  Before before(int32_t follows, int32_t beside) const;
  int32_t insert(const SignedPtr& statement, int32_t follows, int32_t beside);
  Outcome learn_one(const SignedPtr& statement, const SiteId& from, const Verifier& verifier,
                    Instant now, Micros wall, Learned& learned);
  std::optional<Cause> wrong_create(const Signed& statement) const;
  std::optional<Cause> wrong_step(const Signed& statement, int32_t follows, int32_t beside) const;
  std::optional<Cause> over_bounds(const Statement& next, int32_t follows, int32_t beside) const;
  std::optional<Cause> no_rival(int32_t at) const;
  Outcome place(int32_t at, Micros wall, Learned& learned);
  void become_head(int32_t at, Micros wall, Learned& learned);
  Sender& sender(const SiteId& from, Instant now);
  void prune();

  VmId vm_;
  SiteId self_;
  Faults faults_;
  std::vector<Node> nodes_;         // each after what it follows
  std::vector<int32_t> by_digest_;  // ascending
  int32_t head_ = -1;
  std::vector<int32_t> rivals_;
  bool in_doubt_ = false;
  Micros ended_;
  std::vector<Sender> senders_;
};

// Whether two sites may exchange what they know of a VM: either's head names the other.
bool may_exchange(const Statement& mine, const SiteId& self, const Statement& theirs,
                  const SiteId& other);

// Statements on their way between two sites. At most kBundleMax (asserted).
Bytes encode_bundle(std::span<const SignedPtr> bundle);
// kCorrupt, kUnsupported, kLimit.
Result<std::vector<SignedPtr>> decode_bundle(ByteSpan bytes);

}  // namespace hf::title
