#include "control/lifecycle/effect_hook.h"

#ifdef HOLDFAST_EFFECT_HOOK
#ifdef NDEBUG
#error "a release has no effect hook"
#endif
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "sys/fd.h"
#endif

namespace hf::control {

#ifdef HOLDFAST_EFFECT_HOOK

void at_effect(const Paths& paths, VmId vm, lifecycle::Act act, lifecycle::Effect effect,
               EffectMoment moment) {
  using namespace std::chrono_literals;
  constexpr auto kHeld = 60s;
  const std::string file = paths.own() + "/effect-hook/" + vm.hex();
  const sys::UniqueFd wanted(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!wanted) return;
  std::array<char, 100> text{};
  const ssize_t size = ::read(wanted.get(), text.data(), text.size());
  const std::string here = std::string(to_string(act)) + " " + std::string(to_string(effect)) +
                           (moment == EffectMoment::kBefore ? " before" : " after");
  if (size < 0 || here != std::string_view(text.data(), static_cast<size_t>(size))) return;
  const std::string reached = file + ".reached";
  if (std::rename(file.c_str(), reached.c_str()) != 0) return;  // somebody came first
  const auto until = std::chrono::steady_clock::now() + kHeld;
  while (::access(reached.c_str(), F_OK) == 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(1ms);
}

#else

void at_effect(const Paths&, VmId, lifecycle::Act, lifecycle::Effect, EffectMoment) {}

#endif

}  // namespace hf::control
