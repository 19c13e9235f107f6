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

// 202 and the job that does what was asked; its subject is what no two jobs may work on at a time.
Result<Response> start_job(Services& services, const Request& request, std::string kind,
                           std::string subject, JobWork work,
                           std::vector<std::string> preempts = {});
// As whom, and whether it can be cancelled.
JobOptions job_options(std::string_view kind, const Request& request);
// What was refused, as an event: not what was merely misspelt.
void tell_refused(Services& services, const Request& request, const Error& error);

void add_job_routes(Services& services, std::vector<Route>& routes);
void add_attestation_routes(Services& services, std::vector<Route>& routes);
void add_secure_boot_routes(Services& services, std::vector<Route>& routes);

}  // namespace hf::control
