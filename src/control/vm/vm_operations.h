// What can be done with a VM: plain blocking functions, run as jobs. A step that fails undoes those
// before it.
#pragma once

#include "control/services.h"
#include "hypervisor/firmware.h"
#include "vm/create_request.h"

namespace hf::control {

// Whatever is new to this site, created here or offered by another one: what it may be, and that
// this host has machine type and firmware for it. That firmware, for the paths it has here.
Result<hypervisor::Firmware> check_new_vm(VmId vm, const vm::Definition& definition);
// What can be said about a request without doing anything: images, sizes, firmware, the name.
Status check_create(Services& services, const vm::CreateRequest& request);
Result<sys::JsonObject> create_vm(Services& services, const vm::CreateRequest& request,
                                  Progress& progress);

// What is left of a VM whose creation ended with the process that did it: another keeper may not
// meet it, and nobody may start on half a disk.
Status remove_cut_off(Services& services, const VmRow& row);

struct StartOptions {
  bool without_peer = false;
  std::string word;               // of an operator, for that
  bool give_up_bad_tail = false;  // records of the source's that it did not seal
  std::string actor;
};
Result<sys::JsonObject> start_vm(Services& services, VmId vm, const StartOptions& options,
                                 Progress& progress);

struct StopOptions {
  bool force = false;
  std::chrono::seconds guest_limit{60};
};
Result<sys::JsonObject> stop_vm(Services& services, VmId vm, const StopOptions& options,
                                Progress& progress);

struct StopGuestsOptions {
  std::chrono::milliseconds limit{120'000};
  std::string actor;
};
// Asks all guests to shut down, all at once, and waits for their end; nothing starts meanwhile, nor
// for a minute after it, in which the launcher is told to stop. They stay wanted. kTimeout names
// those that did not hear: they run on, and so does the site.
Result<sys::JsonObject> stop_guests(Services& services, const StopGuestsOptions& options,
                                    Progress& progress);
// kConflict: the site is being stopped.
Status site_stays(const Services& services, const VmRow& row);

struct DeleteOptions {
  bool without_peer = false;  // of a superseded VM, though its new home cannot be asked
  std::string actor;
};
// Nothing at another site is touched. A superseded VM is deleted when the other site says that it
// has it: until then this copy may be the newest.
Result<sys::JsonObject> delete_vm(Services& services, VmId vm, const DeleteOptions& options,
                                  Progress& progress);

// How keeper and QEMU are started (lifecycle/launching.h).
struct LaunchOptions {
  bool give_up_bad_tail = false;
  bool look = false;  // nothing on the disk changes, and none need be free
  // The one that the decision to start was made under; none: that of the moment (Units::start).
  launcher::Bar bar;
  ScratchMemory::Use scratch = ScratchMemory::Use::kFresh;
};
struct Launched {
  int64_t keeper_pid = 0;
  int64_t qemu_pid = 0;
  std::string accelerator;
};

// The keeper without a guest, for work on what it owns; finish_vm() ends it. The key is released.
enum class KeeperUse { kLook, kWork };  // kLook: it writes nothing
Status start_keeper_alone(Services& services, const VmRow& row, KeeperUse use);
// A keeper that gave up under a running guest, because the vault was away, say: starts it once
// more.
Status revive_keeper(Services& services, const VmRow& row);
// After QEMU has gone: stops the keeper (which writes the VMGS file) and takes the key back. Waits
// for another thread that does so.
Status finish_vm(Services& services, const VmRow& row);
Status finish_vm_in_turn(Services& services, const VmRow& row);  // by who has the VM's turn
// Before any start from cold of the keeper alone: asks the members, learns what they say, refuses
// as a start would.
Status check_may_start(Services& services, const VmRow& row);

// Who starts something of the VM with its key waits so long for whoever hands it over, and is
// refused then.
inline constexpr std::chrono::seconds kStartTurn{20};
Error worked_on(const VmRow& row);

// "running", "stalled" (QEMU runs, and the guest stands still), "stopped", "stopped (was running)",
// "standby", "superseded".
std::string vm_state(Services& services, const VmRow& row);
// Why a running VM's guest stands still, if it does.
std::optional<Error> stall_of(const Services& services, VmId vm);
Result<sys::JsonObject> vm_summary(Services& services, const VmRow& row);
Result<sys::JsonObject> vm_detail(Services& services, const VmRow& row);

}  // namespace hf::control
