#include "sim/lifecycle/cases.h"

#include <fmt/format.h>

#include "sim/lifecycle/site.h"

namespace hf::sim::life {

using lifecycle::Act;
using lifecycle::Effect;

Scene scene_of(Act act, Effect effect) {
  switch (act) {
    case Act::kFence:
      return Scene::kMistakenTake;
    case Act::kFollow:
      if (effect == Effect::kStoreSuperseded || effect == Effect::kFence)
        return Scene::kDaemonMissedIt;
      if (effect == Effect::kEndKeeper) return Scene::kMistakenTake;
      if (effect == Effect::kUnsealReplica) return Scene::kSealLeft;
      return Scene::kPlain;
    case Act::kHandOver:
      if (effect == Effect::kStoreProtected) return Scene::kWithdrawalStuck;
      if (effect == Effect::kStartAgain) return Scene::kTailStuck;
      return Scene::kPlain;
    case Act::kTakeOver:
      if (effect == Effect::kStartReplica) return Scene::kReplicaDown;
      if (effect == Effect::kReopenReplica || effect == Effect::kSign) return Scene::kOtherSiteOff;
      if (effect == Effect::kUnsealReplica) return Scene::kSourceComesBack;
      if (effect == Effect::kKillGuest || effect == Effect::kEndKeeper)
        return Scene::kGuestDiesInStart;
      return Scene::kPlain;
    case Act::kStart:
      if (effect == Effect::kSign) return Scene::kOtherSiteOff;
      if (effect == Effect::kEndKeeper) return Scene::kGuestAlone;
      if (effect == Effect::kEndReplica || effect == Effect::kAdopt) return Scene::kTakenNotRun;
      if (effect == Effect::kKillGuest) return Scene::kGuestDiesInStart;
      return Scene::kStopped;
    case Act::kStop:
      return Scene::kPlain;
    case Act::kProtect:
      return effect == Effect::kForgetProtection ? Scene::kRefusedThere : Scene::kPlain;
    case Act::kWithdraw:
      if (effect == Effect::kExchange) return Scene::kWithdrawalUnheard;
      if (effect == Effect::kAskMembers || effect == Effect::kSign) return Scene::kOtherSiteOff;
      return Scene::kPlain;
  }
  return Scene::kPlain;
}

std::vector<Case> all_cases() {
  std::vector<Case> all;
  const auto add = [&](Case one) {
    one.number = static_cast<uint32_t>(all.size());
    one.scene = scene_of(one.act, one.effect);
    all.push_back(one);
  };
  for (size_t i = 0; i < lifecycle::kActs; ++i) {
    const Act act = static_cast<Act>(i);
    for (const Effect effect : lifecycle::effects_of(act)) {
      for (const bool cut : {false, true}) {
        for (const When when : {When::kBefore, When::kAfter})
          for (const Victim victim :
               {Victim::kDaemon, Victim::kVault, Victim::kKeeper, Victim::kHost})
            add({.act = act, .effect = effect, .when = when, .victim = victim, .cut = cut});
        if (!is_message(effect)) continue;
        for (const Fate fate :
             {Fate::kQuestionLost, Fate::kAnswerLost, Fate::kDoubled, Fate::kLate})
          add({.act = act, .effect = effect, .fate = fate, .cut = cut});
      }
    }
  }
  return all;
}

std::string name_of(const Case& which) {
  constexpr std::string_view kVictims[]{"nothing", "daemon", "vault", "keeper", "host"};
  constexpr std::string_view kFates[]{"", "question lost", "answer lost", "doubled", "late"};
  const std::string what =
      which.victim != Victim::kNone
          ? fmt::format("{} killed {}", kVictims[static_cast<size_t>(which.victim)],
                        which.when == When::kBefore ? "before" : "after")
          : std::string(kFates[static_cast<size_t>(which.fate)]);
  return fmt::format("{:>4} {} {}: {}, link {}", which.number, to_string(which.act),
                     to_string(which.effect), what, which.cut ? "cut" : "up");
}

}  // namespace hf::sim::life
