// What keepers say of a protection, as the API shows it. What is not known is null, never 0.
#pragma once

#include <string>

#include "base/error.h"
#include "keeper_protocol/control.h"
#include "sys/json.h"

namespace hf::control {

// At the source. Records that were never acknowledged since the keeper began: their number is not
// known before the peer's first word.
sys::JsonObject shipping_view(const keeper_protocol::Shipping& shipping);
// At the replica. Of a source that ships nothing just now it is not known how far it has come.
sys::JsonObject replica_view(const keeper_protocol::ReplicaStatus& status);

// What is said at the source of a replica that the other site does not have any more: it was
// evicted there, say.
Error no_replica_there(const std::string& vm, const std::string& peer);

}  // namespace hf::control
