// The parts of the table of routes that have files of their own.
#pragma once

#include "daemon/router.h"
#include "daemon/services.h"

namespace hf::daemon {

void add_attestation_routes(Services& services, std::vector<Route>& routes);
void add_secure_boot_routes(Services& services, std::vector<Route>& routes);

}  // namespace hf::daemon
