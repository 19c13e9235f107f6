// A title as the API shows it: who holds the VM, since when, on whose word, who stands by.
#pragma once

#include "control/services.h"

namespace hf::control {

// The newest statement, its rivals, and how many there are in all.
Result<sys::JsonObject> title_view(Services& services, const VmRow& row);
// All of them, oldest first. Each was checked by this site's vault as it learned it.
Result<sys::JsonArray> title_chain(Services& services, const VmRow& row);

// Of the statement by which its holder became that: what it runs is under that epoch or a later
// one.
Result<Epoch> tenure_epoch(Services& services, VmId vm);

}  // namespace hf::control
