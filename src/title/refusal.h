// Why something is refused, and the one act that leads on: both typed. Whoever talks to people
// renders them, so that no text decides anything.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

#include "base/ids.h"

namespace hf::title {

enum class Cause : uint8_t {
  // Of a statement that was learned.
  kForeignVm,      // it is another VM's
  kForeignCreate,  // a create, and not the one whose digest is our VM's id
  kBadSignature,
  kUnknownIssuer,   // nobody here knows its key
  kNotEntitled,     // its issuer may not sign this kind over what it follows
  kWrongMembers,    // members or standbys are not what the kind makes of those before
  kWrongHolder,     // nor the holder
  kWrongEpoch,      // the epoch does not count the changes of holder
  kWrongLine,       // the position changed, or is missing, where the kind doesn't let it
  kWrongPolicy,     // the start policy, likewise
  kNotTwoChains,    // it follows two statements of which one follows the other
  kExpelled,        // its issuer was expelled, and it does not follow that
  kRivalOfIssuer,   // another rival of this issuer is kept already
  kTooDeep,         // the bound of statements a VM
  kTooManyRivals,   // the bound of rivals, or of statements in them
  kTooFast,         // its sender has used up what it may send in vain
  kTooManyAtOnce,   // the bound of statements a bundle
  kBytesOutOfForm,  // no statement at all
  // Of an act.
  kOtherHead,  // asked about another head than ours: nothing was judged
  kNoTitle,    // nothing is known of this VM
  kNotHolder,
  kIsHolder,  // a take by the holder: that is "go on"
  kNotMember,
  kNotStandby,
  kNotBeingSeeded,
  kAlready,  // the title says so already
  kTooManyMembers,
  kRival,           // a conflict stands: only what settles it may be signed
  kNoRival,         // nothing to settle
  kInDoubt,         // this vault has signed what it does not know of
  kNoLine,          // this site has nothing of the VM
  kLineNotWhole,    // it has, and not whole up to the position
  kPeerNotWhole,    // the other site hasn't
  kNotOnOurLine,    // what the other site has is no part of the holder's line
  kNotPrepared,     // the taker has not shown that it can
  kProcessesAlive,  // a keeper had the key and is not known dead, or QEMU is not reaped
  kNotAccepted,     // that site's vault has not signed that it takes the VM
  kNotAsked,        // no such question was put
  kNotAnswered,     // asked and not answered yet; not silent for long enough either
  kAnswerTooOld,
  kPeerOtherHead,  // the other site answers under another head: equal heads first
  kStandbySilent,
  kHolderAnswers,
  kHolderSilent,
  kWordNeeded,
  kWordUnknown,  // never given, spent, or too old
  kWordOfOther,  // given for another VM, head, act or position, or naming other sites
  kNotCrossed,   // both gave up: the first by id does so again
  kNobodySilent,
  kEnded,          // the VM was deleted
  kTombstoneGone,  // and too long ago to be taken
  kBranchFirst,    // what the line loses is not kept yet
  kPolicyUnanchored,
  kOtherTenure,  // the guest was started under a title that ended since
  kNotYet,       // laid out, not built
};
std::string_view to_string(Cause cause);

// What leads on. `site` of Refused is the one that the act is about, where it is about one.
enum class Action : uint8_t {
  kNothing,         // it is so already, or will never be
  kAsk,             // ask (again) every member
  kWait,            // for an answer, or until silence has lasted long enough
  kLearn,           // exchange statements with that site
  kAskWithHead,     // ask again, about the head that there is
  kStart,           // "vm start"
  kStop,            // "vm stop"
  kProtect,         // "protection enable VM --to SITE"
  kShip,            // let replication run until that site has the line
  kSeed,            // seed that site
  kTake,            // "failover unplanned VM --source-is-off"
  kGoOn,            // "vm start VM --without-peer"
  kHandOver,        // "failover planned|unplanned VM": the holder answers
  kSettle,          // "failover settle VM --keep SITE"
  kTakeOver,        // "failover settle VM --keep HERE --lost-for-good"
  kGiveWord,        // an operator's word for this act
  kKeepBranch,      // make what the line loses a branch, durably
  kUseOtherSite,    // at the site that is named
  kNewVm,           // a new VM from the copy that is here
  kExpel,           // "protection disable VM --lost-for-good"
  kAcceptThere,     // "replica accept" at that site
  kUnpairOrEvict,   // make room: fewer members
  kCheckpoint,      // cut the chain's past off
  kSettleDoubt,     // have every member answer, or a word
  kTrustSite,       // pair with the issuer
  kPolicyWithRisk,  // accept the risk by name
  kPrepareThere,    // mend what keeps that site from running the VM
};
std::string_view to_string(Action action);

struct Refused {
  Cause cause = Cause::kNoTitle;
  Action action = Action::kNothing;
  SiteId site = {};
  bool operator==(const Refused&) const = default;
};

template <typename T>
using Judged = std::expected<T, Refused>;

inline std::unexpected<Refused> refuse(Cause cause, Action action, const SiteId& site = {}) {
  return std::unexpected(Refused{cause, action, site});
}

}  // namespace hf::title
