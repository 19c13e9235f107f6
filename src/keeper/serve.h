// Mode `serve`: one VM's disks, variable store and vTPM, from its journal.
//
// Threads: the reactor's (journal, volumes, sockets), the vTPM's own (control_server.h), and one
// that tells the vault how far the journal is durable. Start and stop run on the reactor's thread
// and turn it while they wait for the others.
#pragma once

#include "keeper_protocol/config.h"
#include "sys/inherited_fds.h"
#include "vault/protocol/client.h"

namespace hf::keeper {

// Returns when a stop was asked for and all is durable and closed. Errors at the start leave the
// journal as it was.
Status serve_vm(const keeper_protocol::ServeConfig& config, sys::InheritedFds& fds,
                vault::KeyClient& vault);

}  // namespace hf::keeper
