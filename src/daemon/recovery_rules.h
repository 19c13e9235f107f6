// The catalog's row as the recovery rules see it. The catalog is the durable record: it is written
// before anything acts on the new state.
#pragma once

#include "daemon/services.h"
#include "recovery/state.h"

namespace hf::daemon {

recovery::RecoveryState recovery_state(const VmRow& row, bool has_peer);
// The site at the other end of the VM's protection: the only one whose word about its epoch counts.
bool is_counterpart(const Result<ProtectionRow>& protection, const SiteId& site);
// After the VM's processes were started: was it told meanwhile that another site runs the VM? Who
// tells stores that first and then ends what runs, so that one of the two sees the other.
Status still_ours(const VmRow& started, const VmRow& now);
Status store_recovery_state(Services& services, const recovery::RecoveryState& state,
                            std::string_view note);

}  // namespace hf::daemon
