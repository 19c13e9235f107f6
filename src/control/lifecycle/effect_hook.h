// Where a test holds an effect of a VM's life, to kill a process right before or right after it
// (tests/e2e/lifecycle_kills.py). Nothing in a build without HOLDFAST_EFFECT_HOOK, as a release is
// (script/check_effect_hook).
//
// A file STATE/daemon/effect-hook/VM that says "ACT EFFECT before" or "… after", in the words of
// lifecycle/effect.h, holds who comes there: it becomes VM.reached, and who came goes on once that
// is gone. What it can do is wait, as a slow disk can.
#pragma once

#include <utility>

#include "control/core/paths.h"
#include "lifecycle/effect.h"

namespace hf::control {

enum class EffectMoment : uint8_t { kBefore, kAfter };
void at_effect(const Paths& paths, VmId vm, lifecycle::Act act, lifecycle::Effect effect,
               EffectMoment moment);

// What `carry_out` gives, with the moment before it and the one after it.
template <typename CarryOut>
auto as_effect(const Paths& paths, VmId vm, lifecycle::Act act, lifecycle::Effect effect,
               CarryOut&& carry_out) {
  at_effect(paths, vm, act, effect, EffectMoment::kBefore);
  auto outcome = std::forward<CarryOut>(carry_out)();
  at_effect(paths, vm, act, effect, EffectMoment::kAfter);
  return outcome;
}

}  // namespace hf::control
