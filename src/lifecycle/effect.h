// What the lifecycle of a VM does to the world, one thing at a time. Each effect is durable or a
// message to another site or a process that begins or ends: a kill falls before it or after it, and
// whoever comes next observes anew (machine.h).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace hf::lifecycle {

enum class Effect : uint8_t {
  // Messages. What comes back is told with the effect's end.
  kExchange,       // statements both ways with a site, and its vault's answer about the head
  kAskMembers,     // the same with every other member
  kAskHandOver,    // the holder is asked to hand the VM over; with its answer comes the title
  kOffer,          // a site is asked to keep a replica
  kAskWithdrawal,  // a site is asked to resign and remove its replica
  // The vault, durably.
  kSign,
  // The VM's record here, durably: one edit each.
  kStoreSuperseded,  // another site is the holder
  kStoreTaken,       // this site's to run, wanted, what attestation knows is to be adopted, and
                     // the giver protects it from now on
  kStoreStandby,     // the directory goes on as the replica of the holder's line
  kStoreWanted,
  kStoreNotWanted,
  kStoreOffered,      // protection, before the other site hears of it
  kStoreProtected,    // protection stands
  kStoreWithdrawing,  // it ends; the other site may stand by still
  kForgetProtection,
  // Processes here.
  kFence,          // guest killed, key taken back, and nothing queued starts any more
  kKillGuest,      // nothing that was queued starts it again
  kStopGuest,      // as the operator said: asked, or its power cut
  kEndKeeper,      // the one with the key, in order; the key is taken back
  kShipTail,       // a keeper without the key ships what the standby lacks, until it has all
  kStartReplica,   // the keeper without the key that receives
  kReopenReplica,  // anew, as a take would find it
  kSealReplica,    // it takes no more; what it has is durable
  kUnsealReplica,
  kShowLine,     // its end, to the vault
  kFindLine,     // whether the keeper's line holds the other site's position; shown to the vault
  kEndReplica,   // the directory is free
  kStartKeeper,  // with the key, until it serves: the vault has opened the gate
  kAdopt,        // what attestation knows of the VM, out of the journal
  kStartGuest,   // until its vCPUs run
  kStartStream,  // shipping to the site that protects it
  kEndStream,    // and whoever ships for a stopped VM
  kStartAgain,   // a VM that was stopped to be handed over: a start is queued
  kLast = kStartAgain
};
inline constexpr size_t kEffects = static_cast<size_t>(Effect::kLast) + 1;
std::string_view to_string(Effect effect);

// It is a question to another site: the question or its answer can be lost, doubled or late.
bool is_message(Effect effect);
// Of the site's vault, or of the catalog, by which the VM's lot is changed.
bool is_durable(Effect effect);

// The acts that a VM's life is made of.
enum class Act : uint8_t {
  kFence,     // at once, whatever else goes on: the title names another holder
  kFollow,    // what is here is brought to what the title says; nobody asked
  kHandOver,  // at the holder
  kTakeOver,  // at the standby: the taker's half of a hand-over, or a take on a word
  kStart,     // from cold
  kStop,
  kProtect,
  kWithdraw,
  kLast = kWithdraw
};
inline constexpr size_t kActs = static_cast<size_t>(Act::kLast) + 1;
std::string_view to_string(Act act);

// Every effect that the act can have, in the order in which it has them when nothing fails.
std::span<const Effect> effects_of(Act act);

}  // namespace hf::lifecycle
