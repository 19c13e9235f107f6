// The parts of the table of routes that have files of their own.
#pragma once

#include <algorithm>
#include <chrono>

#include "control/http/router.h"
#include "control/services.h"

namespace hf::control {

using SteadyTime = std::chrono::steady_clock::time_point;
inline std::chrono::milliseconds time_left(SteadyTime end) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
  return std::max(left, std::chrono::milliseconds(0));
}

void add_attestation_routes(Services& services, std::vector<Route>& routes);
void add_secure_boot_routes(Services& services, std::vector<Route>& routes);

}  // namespace hf::control
