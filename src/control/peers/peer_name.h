// What this site calls its peers: its operator's choice, unique here, never taken for an id.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "control/store/catalog.h"

namespace hf::control {

// 1 to 64 of letters, digits, '.', '_' and '-', not beginning with '-', and not like an id.
Status check_peer_name(std::string_view name);

// For `site`, which calls itself `own`: as the operator wants it, or else as it is called already,
// or else as it calls itself. kInvalidArgument, kExists: it cannot be called so here; the command
// that `mend` names gives it another name.
Result<std::string> choose_peer_name(Catalog& catalog, SiteId site, std::string_view own,
                                     const std::string& wanted, const std::string& mend);

}  // namespace hf::control
