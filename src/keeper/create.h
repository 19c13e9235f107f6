// Mode `create`: a new VM's journal with everything the VM starts from: disk images, UEFI variable
// store, a manufactured vTPM. Durable when it returns; on any error the directory is empty again.
#pragma once

#include "keeper_protocol/config.h"
#include "sys/inherited_fds.h"
#include "vault/protocol/client.h"

namespace hf::keeper {

// Images come as inherited descriptors "imageN" for volume "diskN"; a volume without one is blank.
Status create_vm(const keeper_protocol::CreateConfig& config, sys::InheritedFds& fds,
                 vault::KeyClient& vault);

}  // namespace hf::keeper
