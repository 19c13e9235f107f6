// Keeper and guest of a VM that this site holds, begun one after the other (vm/launch_vm.cpp). What
// is left of a start that failed is ended by who began it (lifecycle::Machine::run_failed).
#pragma once

#include "control/services.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/kvm_probe.h"
#include "vm/definition.h"

namespace hf::control {

class Launching {
 public:
  // `progress` outlives it; preempted or cancelled, the start ends.
  Launching(Services& services, const VmRow& row, const LaunchOptions& options, Progress& progress)
      : services_(services), row_(row), options_(options), progress_(progress) {}

  // The key is released to it. Until it serves, so the vault has opened the gate. `row`: as it is.
  Status keeper(const VmRow& row);
  Status adopt();  // what came in the journal of a VM that was taken over
  Status guest();  // until its vCPUs run
  const Launched& launched() const { return launched_; }

 private:
  Status goes_on();

  Services& services_;
  VmRow row_;
  const LaunchOptions options_;
  Progress& progress_;
  vm::Definition definition_;
  Launched launched_;
};

// What is wrong with the machine or its firmware shows here, before anything is begun.
Status check_can_launch(const VmRow& row);

}  // namespace hf::control
