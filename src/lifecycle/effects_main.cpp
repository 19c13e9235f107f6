// holdfast-effects: each act of a VM's life and each effect that it can have, one pair a line. What
// tests enumerate their cases from.
#include <fmt/format.h>

#include "lifecycle/effect.h"

int main() {
  using namespace hf::lifecycle;  // NOLINT(google-build-using-namespace)
  for (size_t act = 0; act < kActs; ++act)
    for (const Effect effect : effects_of(static_cast<Act>(act)))
      fmt::print("{} {}\n", to_string(static_cast<Act>(act)), to_string(effect));
  return 0;
}
