// The catalog's row as the recovery rules see it. The catalog is the durable record: it is written
// before anything acts on the new state.
#pragma once

#include "control/services.h"
#include "recovery/state.h"

namespace hf::control {

recovery::RecoveryState recovery_state(const VmRow& row, bool has_peer);
// The site at the other end of the VM's protection: the only one whose word about its epoch counts.
bool is_counterpart(const Result<ProtectionRow>& protection, const SiteId& site);
// Whether it may ask about the VM: that site, or the one that the VM was taken over from.
bool may_ask(const VmRow& row, const Result<ProtectionRow>& protection, const SiteId& site);
// kConflict: its creation is under way, or was cut off.
Status is_made(const VmRow& row);
// Whether its certificate authority's word on the VM's attestation key counts here, beside this
// site's own: one that may ask, or the one that enrolled the key that is pinned.
bool may_vouch(const VmRow& row, const Result<ProtectionRow>& protection,
               const std::optional<SiteId>& enrolled_at, const SiteId& site);
// Is the VM this site's to run, under the epoch that whoever starts it knew?
Status still_ours(const VmRow& started, const VmRow& now);

}  // namespace hf::control
