// What the lifecycle's refusals mean to people: cause, effect, and a command that leads on.
#pragma once

#include "control/lifecycle/act.h"

namespace hf::control {

// Of a start from cold. `site`: that holds the VM, or whose silence holds the start up.
Error refused_start(Services& services, const VmRow& row, lifecycle::Refusal why,
                    const SiteId& site);
// Of a take-over, by the site `source`.
Error refused_take_over(const VmRow& row, const ActOutcome& outcome, const std::string& source,
                        bool said_off);
// The holder's answer to "hand it over": why not, in a sentence that the asker shows.
std::string refused_hand_over(Services& services, const ActOutcome& outcome, const PeerRow& to);

std::string_view words(lifecycle::SourceAnswer answer);

}  // namespace hf::control
