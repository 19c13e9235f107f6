// The Secure Boot keys of this site's VMs: shown, edited on a stopped VM, saved and restored, and
// rolled over under a running guest's eyes.
//
// The keeper owns the variable store. Of a stopped VM it is started for the work alone, under the
// same rules as for a guest: only where this site may run the VM.
#pragma once

#include <functional>

#include "control/services.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"
#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::control {

// Out of the keeper's answer to keeper_protocol::SecureBoot.
Result<secure_boot::SecureBootVariables> variables_of(const sys::JsonObject& keeper_answer);

// {"vm","profile","secure_boot","variables":[…in words…],"state":{…as they are…},"saved":[…]}
//
// Job work; each of them wants the VM stopped (kConflict), but for show, which also asks the keeper
// of a running one.
Result<sys::JsonObject> show_secure_boot(Services& services, VmId vm, Progress& progress);
Result<sys::JsonObject> edit_secure_boot(Services& services, VmId vm,
                                         const std::vector<secure_boot::Change>& changes,
                                         const std::string& actor, Progress& progress);
enum class SavedStore { kSave, kRestore, kForget };
Result<sys::JsonObject> keep_secure_boot(Services& services, VmId vm, SavedStore what,
                                         const std::string& name, const std::string& actor,
                                         Progress& progress);

// Would the VM's keys start what its disk boots? Judged by its present variables, boot entries and
// boot files, which its keeper reads: the report of secure_boot/preflight/preflight.h with "vm",
// "running", "vbs" and "text". kUnsupported: the VM has no UEFI variables. kCorrupt: the disk
// cannot be read.
Result<sys::JsonObject> check_boot(Services& services, VmId vm, Progress& progress);

// With the VM's keeper, which is started for it if the VM does not run.
Status with_vm_keeper(Services& services, const VmRow& row, Progress& progress,
                      const std::function<Status(const keeper_protocol::Client&)>& work,
                      KeeperUse use);
// One question to it.
inline constexpr std::chrono::seconds kVmKeeperLimit{10};
template <typename Asked>
Result<typename Asked::Reply> ask_vm_keeper(Services& services, const VmRow& row,
                                            const Asked& question, Progress& progress,
                                            KeeperUse use = KeeperUse::kWork) {
  std::optional<typename Asked::Reply> answer;
  auto ask = [&](const keeper_protocol::Client& keeper) -> Status {
    answer = TRY(keeper.ask(question, kVmKeeperLimit));
    return {};
  };
  TRY(with_vm_keeper(services, row, progress, ask, use));
  return *std::move(answer);
}

}  // namespace hf::control
