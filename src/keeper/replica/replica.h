// Modes without a key: `replica` (replica_keeper.h) and `caretaker` (caretaker.h).
#pragma once

#include "keeper_protocol/config.h"
#include "sys/inherited_fds.h"

namespace hf::keeper {

// Returns when a stop was asked for and all is durable and closed.
Status receive_vm(const keeper_protocol::ReplicaConfig& config, sys::InheritedFds& fds);
// Returns when a stop was asked for, or the peer has all that is durable here.
Status look_after_vm(const keeper_protocol::CaretakerConfig& config, sys::InheritedFds& fds);

}  // namespace hf::keeper
