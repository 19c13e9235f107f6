// KVM or TCG: found out once, by running a vCPU.
#pragma once

#include "hypervisor/kvm_probe.h"
#include "hypervisor/qemu_command.h"

namespace hf::control {

// The first call probes (up to two seconds), later ones know. Any thread.
const hypervisor::KvmProbe& kvm_probe();
// KVM only where all of it works: a host whose KVM lacks system management mode has been seen to
// hang guests without Secure Boot too.
hypervisor::Accelerator accelerator();

}  // namespace hf::control
