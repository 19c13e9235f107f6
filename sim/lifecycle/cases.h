// Cases: each effect of each act, with each process killed before and after it, and each message
// lost, doubled or late; link up, and link cut at that moment. Enumerated from
// lifecycle::effects_of().
#pragma once

#include <string>
#include <vector>

#include "lifecycle/effect.h"

namespace hf::sim::life {

enum class When : uint8_t { kBefore, kAfter };
enum class Victim : uint8_t { kNone, kDaemon, kVault, kKeeper, kHost };
enum class Fate : uint8_t;

// How the effect comes about where nothing fails by itself; several ways may lead to one.
enum class Scene : uint8_t {
  kPlain,              // the act in a world where all is well
  kMistakenTake,       // the holder is taken from while its link is cut, and runs on
  kStopped,            // the VM does not run
  kOtherSiteOff,       // and an operator's word says so
  kWithdrawalUnheard,  // the other site's daemon answers, but for the question to resign
  kWithdrawalStuck,    // the other site could not be asked to end its protection
  kTailStuck,          // the standby's keeper takes nothing
  kSourceComesBack,    // while it is taken from on a word
  kGuestDiesInStart,
  kGuestAlone,      // QEMU died, its keeper did not
  kTakenNotRun,     // the VM is this site's, and its old receiver runs still
  kDaemonMissedIt,  // it was away when its vault learned
  kRefusedThere,    // the other site has something else under that id
  kReplicaDown,
  kSealLeft,  // by a take whose daemon died
  kLast = kSealLeft
};

struct Case {
  uint32_t number = 0;
  lifecycle::Act act = lifecycle::Act::kFollow;
  lifecycle::Effect effect = lifecycle::Effect::kSign;
  Scene scene = Scene::kPlain;
  When when = When::kBefore;
  Victim victim = Victim::kNone;
  Fate fate{};
  bool cut = false;
};

std::vector<Case> all_cases();
// That leads to the effect.
Scene scene_of(lifecycle::Act act, lifecycle::Effect effect);
std::string name_of(const Case& which);

}  // namespace hf::sim::life
