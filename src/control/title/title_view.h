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

// Why the vault, when it gives up its trust in `site`, does not expel it from this title: another
// site's rival stands in the way, which is settled first. That site; none where nothing does.
// `first_rival`: its holder.
std::optional<SiteId> rival_before_expulsion(const title::Statement& head,
                                             const std::optional<SiteId>& first_rival,
                                             const SiteId& self, const SiteId& site);

}  // namespace hf::control
