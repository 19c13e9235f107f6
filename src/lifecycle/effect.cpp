#include "lifecycle/effect.h"

#include <array>

#include "base/assert.h"

namespace hf::lifecycle {
namespace {

using E = Effect;

constexpr std::array kFenceEffects{E::kStoreSuperseded, E::kFence};
constexpr std::array kFollowEffects{E::kStoreSuperseded, E::kFence,        E::kEndKeeper,
                                    E::kEndStream,       E::kStoreStandby, E::kStartReplica,
                                    E::kUnsealReplica,   E::kStartStream,  E::kExchange,
                                    E::kFindLine,        E::kSign};
constexpr std::array kHandOverEffects{E::kExchange,       E::kStoreProtected, E::kKillGuest,
                                      E::kEndKeeper,      E::kShipTail,       E::kSign,
                                      E::kStoreNotWanted, E::kStartAgain};
constexpr std::array kTakeOverEffects{
    E::kStartReplica, E::kAskHandOver, E::kReopenReplica, E::kSealReplica, E::kShowLine,
    E::kAskMembers,   E::kSign,        E::kStoreTaken,    E::kEndReplica,  E::kStartKeeper,
    E::kAdopt,        E::kStartGuest,  E::kUnsealReplica, E::kKillGuest,   E::kEndKeeper};
constexpr std::array kStartEffects{E::kAskMembers, E::kSign,        E::kEndKeeper,
                                   E::kEndReplica, E::kStartKeeper, E::kAdopt,
                                   E::kStartGuest, E::kStoreWanted, E::kKillGuest};
constexpr std::array kStopEffects{E::kStopGuest, E::kStoreNotWanted, E::kEndKeeper};
constexpr std::array kProtectEffects{
    E::kStoreOffered,   E::kOffer,       E::kExchange,        E::kSign,
    E::kStoreProtected, E::kStartStream, E::kForgetProtection};
constexpr std::array kWithdrawEffects{E::kEndStream,       E::kStoreWithdrawing, E::kAskWithdrawal,
                                      E::kExchange,        E::kAskMembers,       E::kSign,
                                      E::kForgetProtection};

}  // namespace

std::span<const Effect> effects_of(Act act) {
  switch (act) {
    case Act::kFence:
      return kFenceEffects;
    case Act::kFollow:
      return kFollowEffects;
    case Act::kHandOver:
      return kHandOverEffects;
    case Act::kTakeOver:
      return kTakeOverEffects;
    case Act::kStart:
      return kStartEffects;
    case Act::kStop:
      return kStopEffects;
    case Act::kProtect:
      return kProtectEffects;
    case Act::kWithdraw:
      return kWithdrawEffects;
  }
  HF_ASSERT(false);
}

bool is_message(Effect effect) {
  switch (effect) {
    case E::kExchange:
    case E::kAskMembers:
    case E::kAskHandOver:
    case E::kOffer:
    case E::kAskWithdrawal:
      return true;
    default:
      return false;
  }
}

bool is_durable(Effect effect) {
  switch (effect) {
    case E::kSign:
    case E::kStoreSuperseded:
    case E::kStoreTaken:
    case E::kStoreStandby:
    case E::kStoreWanted:
    case E::kStoreNotWanted:
    case E::kStoreOffered:
    case E::kStoreProtected:
    case E::kStoreWithdrawing:
    case E::kForgetProtection:
      return true;
    default:
      return false;
  }
}

std::string_view to_string(Act act) {
  switch (act) {
    case Act::kFence:
      return "fence";
    case Act::kFollow:
      return "follow";
    case Act::kHandOver:
      return "hand-over";
    case Act::kTakeOver:
      return "take-over";
    case Act::kStart:
      return "start";
    case Act::kStop:
      return "stop";
    case Act::kProtect:
      return "protect";
    case Act::kWithdraw:
      return "withdraw";
  }
  return "?";
}

std::string_view to_string(Effect effect) {
  switch (effect) {
    case E::kExchange:
      return "exchange";
    case E::kAskMembers:
      return "ask-members";
    case E::kAskHandOver:
      return "ask-hand-over";
    case E::kOffer:
      return "offer";
    case E::kAskWithdrawal:
      return "ask-withdrawal";
    case E::kSign:
      return "sign";
    case E::kStoreSuperseded:
      return "store-superseded";
    case E::kStoreTaken:
      return "store-taken";
    case E::kStoreStandby:
      return "store-standby";
    case E::kStoreWanted:
      return "store-wanted";
    case E::kStoreNotWanted:
      return "store-not-wanted";
    case E::kStoreOffered:
      return "store-offered";
    case E::kStoreProtected:
      return "store-protected";
    case E::kStoreWithdrawing:
      return "store-withdrawing";
    case E::kForgetProtection:
      return "forget-protection";
    case E::kFence:
      return "fence";
    case E::kKillGuest:
      return "kill-guest";
    case E::kStopGuest:
      return "stop-guest";
    case E::kEndKeeper:
      return "end-keeper";
    case E::kShipTail:
      return "ship-tail";
    case E::kStartReplica:
      return "start-replica";
    case E::kReopenReplica:
      return "reopen-replica";
    case E::kSealReplica:
      return "seal-replica";
    case E::kUnsealReplica:
      return "unseal-replica";
    case E::kShowLine:
      return "show-line";
    case E::kFindLine:
      return "find-line";
    case E::kEndReplica:
      return "end-replica";
    case E::kStartKeeper:
      return "start-keeper";
    case E::kAdopt:
      return "adopt";
    case E::kStartGuest:
      return "start-guest";
    case E::kStartStream:
      return "start-stream";
    case E::kEndStream:
      return "end-stream";
    case E::kStartAgain:
      return "start-again";
  }
  return "?";
}

}  // namespace hf::lifecycle
