// The table of routes: everything that can be asked of holdfastd (api/openapi.yaml).
#pragma once

#include "control/http/router.h"
#include "control/services.h"

namespace hf::control {

Router make_router(Services& services);

}  // namespace hf::control
