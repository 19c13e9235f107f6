// Is KVM really usable here? /dev/kvm may be there and open and yet not run a guest (a nested
// host), or lack the system management mode that Secure Boot firmware needs.
#pragma once

#include <chrono>
#include <string>

namespace hf::hypervisor {

struct KvmProbe {
  // Guests run, and with SMM. Without SMM KVM is not used at all: hosts that hide it have been
  // seen to run a few instructions and then fail in the firmware.
  bool usable = false;
  bool runs_guests = false;  // a vCPU executed instructions, in real mode
  bool has_smm = false;      // KVM_CAP_X86_SMM
  std::string reason;        // for a person: "/dev/kvm does not exist", … ; "works" if usable
};

// Opens `device`, makes a VM with one vCPU, runs a few instructions of guest code in a child
// process and asks for SMM. Bounded by `limit` (the child is killed). Changes nothing.
KvmProbe probe_kvm(const std::string& device = "/dev/kvm",
                   std::chrono::milliseconds limit = std::chrono::milliseconds(2000));

}  // namespace hf::hypervisor
