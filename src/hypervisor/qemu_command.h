// QEMU's command line for one VM. Pure: the same definition gives the same words, tested against
// golden text, because the order of devices is part of what a guest measures and boots from.
//
// Disks and the UEFI variable store are NBD nodes served by the VM's keeper, the vTPM is the
// keeper's swtpm control socket. QMP and the console are listening sockets handed down by the
// launcher: their descriptor numbers stand in the command line (launcher::fd_number).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "vm/definition.h"

namespace hf::hypervisor {

enum class Accelerator { kTcg, kKvm };
constexpr auto json_words(sys::JsonOf<Accelerator>) {
  return std::array{sys::JsonWord{"tcg", Accelerator::kTcg},
                    sys::JsonWord{"kvm", Accelerator::kKvm}};
}

// What of trusted launch the VM has. Secure Boot needs system management mode: without it a root
// user in the guest could write the variable store.
struct Security {
  bool secure_boot = true;  // SMM, and the flash writable from SMM only
  bool vtpm = true;
};

struct DiskNode {
  std::string name;         // "disk1": node name and serial; [a-z0-9-]
  std::string socket_path;  // absolute, or where QEMU is started; the keeper's NBD listener
  bool read_only = false;
};

using vm::Network;
struct Nic {
  std::string mac;  // "52:54:00:12:34:56"
  Network network = Network::kNone;
};

// -fw_cfg entries: opt/NAME. Knobs for tests and for provisioning.
struct FirmwareConfig {
  std::string name;  // without "opt/"
  std::string text;
};

struct QemuDefinition {
  std::string name;  // shown by ps; [A-Za-z0-9._-]
  VmId vm;           // also the SMBIOS UUID
  std::string machine_type = "pc-q35-7.2";
  Accelerator accelerator = Accelerator::kTcg;
  uint32_t cpus = 1;
  uint64_t memory_mib = 512;
  Security security;
  std::string firmware_code;     // absolute path, read-only
  std::string vars_socket_path;  // NBD
  std::string vars_file;         // instead of the socket, for tests: a raw file
  std::string tpm_socket_path;   // used if security.vtpm
  std::vector<DiskNode> disks;   // boot order
  std::vector<Nic> nics;
  std::vector<FirmwareConfig> firmware_config;
  int qmp_fd = 3;      // a listening unix socket
  int console_fd = 4;  // a listening unix socket: the first serial port
  // A virtio-serial port for a guest agent. Not part of what firmware measures; still part of the
  // machine from its creation on, since a device more is a device more for the guest.
  bool guest_agent = false;
  int guest_agent_fd = 5;  // a listening unix socket
  // Instead of the descriptors, for tests: paths QEMU listens at itself.
  std::string qmp_path;
  std::string console_path;
  std::string guest_agent_path;
  bool no_reboot = false;  // a guest's reset ends QEMU
};

// argv; argv[0] is "qemu-system-x86_64". kInvalidArgument names what cannot be put into a command
// line (a comma or control character in a path, too many devices, an odd MAC address).
Result<std::vector<std::string>> qemu_arguments(const QemuDefinition& definition);

using vm::kCpusMax;
using vm::kDisksMax;
using vm::kNicsMax;

}  // namespace hf::hypervisor
