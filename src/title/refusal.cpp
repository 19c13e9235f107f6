#include "title/refusal.h"

namespace hf::title {

std::string_view to_string(Cause cause) {
  switch (cause) {
    case Cause::kForeignVm:
      return "foreign vm";
    case Cause::kForeignCreate:
      return "foreign create";
    case Cause::kBadSignature:
      return "bad signature";
    case Cause::kUnknownIssuer:
      return "unknown issuer";
    case Cause::kNotEntitled:
      return "not entitled";
    case Cause::kWrongMembers:
      return "wrong members";
    case Cause::kWrongHolder:
      return "wrong holder";
    case Cause::kWrongEpoch:
      return "wrong epoch";
    case Cause::kWrongLine:
      return "wrong line";
    case Cause::kWrongPolicy:
      return "wrong policy";
    case Cause::kNotTwoChains:
      return "not two chains";
    case Cause::kExpelled:
      return "expelled";
    case Cause::kRivalOfIssuer:
      return "rival of issuer";
    case Cause::kTooDeep:
      return "too deep";
    case Cause::kTooManyRivals:
      return "too many rivals";
    case Cause::kTooFast:
      return "too fast";
    case Cause::kTooManyAtOnce:
      return "too many at once";
    case Cause::kBytesOutOfForm:
      return "bytes out of form";
    case Cause::kOtherHead:
      return "other head";
    case Cause::kNoTitle:
      return "no title";
    case Cause::kNotHolder:
      return "not holder";
    case Cause::kIsHolder:
      return "is holder";
    case Cause::kNotMember:
      return "not member";
    case Cause::kNotStandby:
      return "not standby";
    case Cause::kNotBeingSeeded:
      return "not being seeded";
    case Cause::kAlready:
      return "already";
    case Cause::kTooManyMembers:
      return "too many members";
    case Cause::kRival:
      return "rival";
    case Cause::kNoRival:
      return "no rival";
    case Cause::kInDoubt:
      return "in doubt";
    case Cause::kNoLine:
      return "no line";
    case Cause::kLineNotWhole:
      return "line not whole";
    case Cause::kPeerNotWhole:
      return "peer not whole";
    case Cause::kNotOnOurLine:
      return "not on our line";
    case Cause::kNotPrepared:
      return "not prepared";
    case Cause::kProcessesAlive:
      return "processes alive";
    case Cause::kNotAccepted:
      return "not accepted";
    case Cause::kNotAsked:
      return "not asked";
    case Cause::kNotAnswered:
      return "not answered";
    case Cause::kAnswerTooOld:
      return "answer too old";
    case Cause::kPeerOtherHead:
      return "peer other head";
    case Cause::kStandbySilent:
      return "standby silent";
    case Cause::kHolderAnswers:
      return "holder answers";
    case Cause::kHolderSilent:
      return "holder silent";
    case Cause::kWordNeeded:
      return "word needed";
    case Cause::kWordUnknown:
      return "word unknown";
    case Cause::kWordOfOther:
      return "word of other";
    case Cause::kNotCrossed:
      return "not crossed";
    case Cause::kNobodySilent:
      return "nobody silent";
    case Cause::kEnded:
      return "ended";
    case Cause::kTombstoneGone:
      return "tombstone gone";
    case Cause::kBranchFirst:
      return "branch first";
    case Cause::kPolicyUnanchored:
      return "policy unanchored";
    case Cause::kOtherTenure:
      return "other tenure";
    case Cause::kNotYet:
      return "not yet";
  }
  return "unknown";
}

std::string_view to_string(Action action) {
  switch (action) {
    case Action::kNothing:
      return "nothing";
    case Action::kAsk:
      return "ask";
    case Action::kWait:
      return "wait";
    case Action::kLearn:
      return "learn";
    case Action::kAskWithHead:
      return "ask with head";
    case Action::kStart:
      return "start";
    case Action::kStop:
      return "stop";
    case Action::kProtect:
      return "protect";
    case Action::kShip:
      return "ship";
    case Action::kSeed:
      return "seed";
    case Action::kTake:
      return "take";
    case Action::kGoOn:
      return "go on";
    case Action::kHandOver:
      return "hand over";
    case Action::kSettle:
      return "settle";
    case Action::kTakeOver:
      return "take over";
    case Action::kGiveWord:
      return "give word";
    case Action::kKeepBranch:
      return "keep branch";
    case Action::kUseOtherSite:
      return "use other site";
    case Action::kNewVm:
      return "new vm";
    case Action::kExpel:
      return "expel";
    case Action::kAcceptThere:
      return "accept there";
    case Action::kUnpairOrEvict:
      return "unpair or evict";
    case Action::kCheckpoint:
      return "checkpoint";
    case Action::kSettleDoubt:
      return "settle doubt";
    case Action::kTrustSite:
      return "trust site";
    case Action::kPolicyWithRisk:
      return "policy with risk";
    case Action::kPrepareThere:
      return "prepare there";
  }
  return "unknown";
}

}  // namespace hf::title
