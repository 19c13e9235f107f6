#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// The rules know no site's name.
Error where(Error error, recovery::Role role, const VmRow& row, const std::string& peer) {
  switch (role) {
    case recovery::Role::kSuperseded:
      error.mend = "use the VM at site " + peer + ": holdfast vm show " + row.name;
      break;
    case recovery::Role::kReplica:
      error.mend = "at site " + peer + ", whose VM it is: holdfast vm start " + row.name +
                   "; to take it over, at this site: holdfast failover unplanned " + row.name;
      break;
    case recovery::Role::kPrimary:
      if (error.code != ErrorCode::kUnavailable) break;
      error.cause += " (site " + peer + ")";
      error.mend = "bring the link to site " + peer +
                   " back (holdfast site peers); or, if the VM was not taken over there: holdfast "
                   "vm start " +
                   row.name + " --without-peer";
      break;
  }
  return error;
}

}  // namespace

Status check_may_start(Services& services, const VmRow& row, const StartOptions& options) {
  const Result<ProtectionRow> protection = services.catalog->protection(row.id);
  // To what was only offered nothing was shipped: nobody can take the VM over from it.
  const bool is_protected = protection.ok() && protection->state != ProtectionState::kOffered;
  recovery::RecoveryState state = recovery_state(row, is_protected);
  std::optional<recovery::PeerAnswer> answer;
  if (is_protected && row.role == VmRole::kActive) {
    Result<recovery::PeerAnswer> asked = services.peers->ask_epoch(row.id, state, 3s);
    if (asked.ok()) {
      TRY(recovery::learn_peer(state, *asked));
      state = TRY(learn_epoch(services, row.id, asked->epoch,
                              "the peer has epoch " + std::to_string(asked->epoch.value)))
                  .state;
      answer = *asked;
    } else {
      log_warning("VM " + row.name + ": the peer could not be asked: " + asked.error().describe());
    }
  }
  if (options.without_peer && is_protected && !answer) {
    TRY(services.catalog->audit(options.actor, "vm start --without-peer", row.name, row.id.hex()));
  }
  Status may = recovery::may_start(
      state, answer,
      options.without_peer ? recovery::StartWord::kWithoutPeer : recovery::StartWord::kNone);
  if (may.ok() || !protection.ok()) return may;
  return where(std::move(may).error(), state.role, row,
               services.protections->peer_name(protection->peer));
}

Result<sys::JsonObject> start_vm(Services& services, VmId vm, const StartOptions& options,
                                 Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  if (services.units->running(qemu_unit(vm))) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" runs already",
                 .effect = "nothing was started",
                 .mend = "holdfast vm list"};
  }
  TRY(site_stays(services, row));
  TRY(is_made(row));
  // A fence from here on ends this start, wherever it is by then.
  launcher::Bar bar = services.units->bar(vm);
  progress.step("check that this site may run the VM");
  TRY(check_may_start(services, row, options));
  // A keeper that outlived its QEMU: the next guest must not meet its state.
  if (services.units->running(keeper_unit(vm))) TRY(finish_vm(services, row));
  if (options.give_up_bad_tail) {
    TRY(services.catalog->audit(options.actor, "vm start --give-up-bad-tail", row.name,
                                row.id.hex()));
  }
  Launched launched = TRY(launch_vm(
      services, row, {.give_up_bad_tail = options.give_up_bad_tail, .bar = bar}, progress));
  TRY(services.catalog->set_wanted(vm, true));
  log_info("VM " + row.name + " was started");
  services.happened("vm.started", row.name, "was started (" + launched.accelerator + ")",
                    progress.by());
  sys::JsonObject result = TRY(vm_summary(services, row));
  result["accelerator"] = launched.accelerator;
  result["qemu_pid"] = launched.qemu_pid;
  result["keeper_pid"] = launched.keeper_pid;
  return result;
}

}  // namespace hf::control
