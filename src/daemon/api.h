// The table of routes: everything that can be asked of holdfastd (api/openapi.yaml).
#pragma once

#include "daemon/router.h"
#include "daemon/services.h"

namespace hf::daemon {

Router make_router(Services& services);

}  // namespace hf::daemon
