#include "control/host/accelerator.h"

namespace hf::control {

const hypervisor::KvmProbe& kvm_probe() {
  static const hypervisor::KvmProbe probe = hypervisor::probe_kvm();
  return probe;
}

hypervisor::Accelerator accelerator() {
  return kvm_probe().usable ? hypervisor::Accelerator::kKvm : hypervisor::Accelerator::kTcg;
}

}  // namespace hf::control
