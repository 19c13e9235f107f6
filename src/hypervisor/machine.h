// The machine of one VM as this host runs it: what its definition says, and what only the host
// knows.
#pragma once

#include <string>

#include "hypervisor/firmware.h"
#include "hypervisor/qemu_command.h"

namespace hf::hypervisor {

struct MachinePlace {
  VmId vm;
  Accelerator accelerator = Accelerator::kTcg;
  std::string firmware_root = "/usr/share/OVMF";
};

FirmwareKind firmware_kind(const vm::Definition& definition);

// The keeper's sockets, vars.nbd, tpm.sock and <disk>.nbd for each disk, are named as they lie in
// the directory that QEMU is started in: its path may be longer than QEMU takes one for a socket.
// QMP, console and the guest agent's port are the descriptors 3, 4 and 5. kNotFound, kConflict: the
// firmware build that the VM was made with is not installed. Reads the installed ones.
Result<QemuDefinition> machine_of(const vm::Definition& definition, const MachinePlace& place);

}  // namespace hf::hypervisor
