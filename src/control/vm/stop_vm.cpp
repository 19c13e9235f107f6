#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "control/core/log.h"
#include "control/host/console.h"
#include "control/lifecycle/effect_hook.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/qmp_client.h"

namespace hf::control {

using lifecycle::Act;
using lifecycle::Effect;

namespace {

using namespace std::chrono_literals;

Error overtaken(const VmRow& row) {
  return Error{.code = ErrorCode::kConflict,
               .cause = "VM \"" + row.name + "\" was told to stop at once meanwhile",
               .effect = "this stop waited no longer for the guest",
               .mend = "holdfast vm show " + row.name};
}

Error cancelled(const VmRow& row) {
  return Error{.code = ErrorCode::kConflict,
               .cause = "the stop of VM \"" + row.name + "\" was cancelled",
               .effect = "the VM still runs; its guest was asked to shut down, and may do so yet",
               .mend = "holdfast vm show " + row.name};
}

// The guest's own shutdown, asked for by the ACPI power button: again and again, because firmware
// and a booting system do not hear it.
Status ask_guest(Services& services, const VmRow& row, std::chrono::seconds limit,
                 const Progress& progress) {
  constexpr auto kAgain = std::chrono::milliseconds(5000);
  constexpr auto kLook = std::chrono::milliseconds(200);  // for a job that pre-empts this one
  auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end) {
    hypervisor::QmpClient qmp(services.paths.run_file(row.id, "qmp.sock"), 5s);
    Status pressed = qmp.power_button();
    qmp.disconnect();
    const auto again = std::min(end, std::chrono::steady_clock::now() + kAgain);
    do {
      if (services.units->wait_end(qemu_unit(row.id), kLook).ok()) return {};
      if (progress.preempted()) return overtaken(row);
      if (progress.cancelled()) return cancelled(row);
    } while (std::chrono::steady_clock::now() < again);
    TRY(std::move(pressed));
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = fmt::format("the guest did not shut down within {} s", limit.count()),
               .effect = "the VM still runs",
               .mend = "holdfast vm stop " + row.name + " --force"};
}

// QEMU ends without asking the guest: by QMP, or by a signal where its monitor does not answer.
Status power_off(Services& services, const VmRow& row) {
  hypervisor::QmpClient qmp(services.paths.run_file(row.id, "qmp.sock"), 2s);
  Status quit = qmp.quit();
  if (quit.ok() && services.units->wait_end(qemu_unit(row.id), 5s).ok()) return {};
  return services.units->stop(qemu_unit(row.id), 9, 5s);
}

}  // namespace

Result<sys::JsonObject> stop_vm(Services& services, VmId vm, const StopOptions& options,
                                Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  const bool running = services.units->running(qemu_unit(vm));
  if (!running && !services.units->running(keeper_unit(vm))) {
    TRY(services.catalog->set_wanted(vm, false));
    // It was about to start, or to stop in its own time.
    if (progress.has_preempted()) return vm_summary(services, row);
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" does not run",
                 .effect = "nothing was stopped",
                 .mend = "holdfast vm list"};
  }
  if (running && options.force) {
    progress.step("power off");
    TRY(as_effect(services.paths, vm, Act::kStop, Effect::kStopGuest,
                  [&] { return power_off(services, row); }));
  } else if (running) {
    progress.step("ask the guest to shut down");
    TRY(as_effect(services.paths, vm, Act::kStop, Effect::kStopGuest,
                  [&] { return ask_guest(services, row, options.guest_limit, progress); }));
  }
  TRY(as_effect(services.paths, vm, Act::kStop, Effect::kStoreNotWanted,
                [&] { return services.catalog->set_wanted(vm, false); }));
  progress.step("stop the keeper and take the key back");
  TRY(as_effect(services.paths, vm, Act::kStop, Effect::kEndKeeper,
                [&] { return finish_vm(services, row); }));
  log_info("VM " + row.name + " was stopped");
  services.happened("vm.stopped", row.name,
                    !running        ? "was stopped: its guest had ended already"
                    : options.force ? "was stopped: its power was cut"
                                    : "was stopped: its guest was asked, and shut down",
                    progress.by());
  return vm_summary(services, row);
}

namespace {

// Has the VM a home elsewhere, so that what is left here can go?
Status check_left_over(Services& services, const VmRow& row, const DeleteOptions& options) {
  Result<recovery::PeerAnswer> asked =
      services.peers->ask_epoch(row.id, recovery_state(row, true), 3s);
  if (asked.ok() && asked->role != recovery::Role::kReplica) return {};
  const Result<ProtectionRow> protection = services.catalog->protection(row.id);
  const std::string peer = protection.ok()
                               ? "site " + services.protections->peer_name(protection->peer)
                               : std::string("the other site");
  if (asked.ok()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = peer + " has not taken VM \"" + row.name +
                          "\" over yet: it still holds a replica only",
                 .effect = "nothing was deleted: this copy may be the newest",
                 .mend = "at " + peer + ": holdfast failover unplanned " + row.name};
  }
  if (options.without_peer) return {};
  return Error{.code = ErrorCode::kUnavailable,
               .cause = peer + ", which took VM \"" + row.name +
                        "\" over, does not say that it has it: " + asked.error().cause,
               .effect = "nothing was deleted: this copy may be the only one",
               .mend =
                   "holdfast site peers; if the VM is safe there or not needed: holdfast vm "
                   "delete " +
                   row.name + " --without-peer"};
}

}  // namespace

namespace {

// A replica goes with the protection, which its source ends.
Error still_protected(Services& services, const VmRow& row, const ProtectionRow& protection) {
  const std::string peer = services.protections->peer_name(protection.peer);
  const bool out = protection.direction == Direction::kOut;
  if (protection.state == ProtectionState::kWithdrawing) {
    return {.code = ErrorCode::kConflict,
            .cause = "site " + peer + " has not removed its replica of VM \"" + row.name + "\" yet",
            .effect = "nothing was deleted",
            .mend = "it is removed by itself when site " + peer +
                    " is back (holdfast site peers); if that never comes: holdfast protection "
                    "disable " +
                    row.name + " --without-peer"};
  }
  return {.code = ErrorCode::kConflict,
          .cause = "VM \"" + row.name + "\" is " +
                   (protection.state == ProtectionState::kOffered ? "offered to site "
                    : out                                         ? "protected by site "
                          : "the replica of a VM of site ") +
                   peer,
          .effect = "nothing was deleted",
          .mend = "at site " + (out ? services.site.name : peer) +
                  ": holdfast protection disable " + row.name};
}

// What is not this site's any more is being ended: nobody has to stop it.
void wait_fenced(Services& services, VmId vm) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (std::chrono::steady_clock::now() < end && !services.ending &&
         (services.units->running(qemu_unit(vm)) || services.units->running(keeper_unit(vm)))) {
    std::this_thread::sleep_for(20ms);
  }
}

}  // namespace

Result<sys::JsonObject> delete_vm(Services& services, VmId vm, const DeleteOptions& options,
                                  Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  if (row.role == VmRole::kSuperseded) wait_fenced(services, vm);
  if (services.units->running(qemu_unit(vm)) || services.units->running(keeper_unit(vm))) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" runs",
                 .effect = "nothing was deleted",
                 .mend = "holdfast vm stop " + row.name};
  }
  if (row.role == VmRole::kCreating) {
    TRY(remove_cut_off(services, row));
    return sys::JsonObject{{"deleted", row.name}, {"id", row.id.hex()}};
  }
  if (row.role == VmRole::kSuperseded) {
    progress.step("ask the other site whether it has the VM");
    TRY(check_left_over(services, row, options));
  } else if (Result<ProtectionRow> protection = services.catalog->protection(vm); protection.ok()) {
    return still_protected(services, row, *protection);
  }
  TRY(services.catalog->audit(options.actor, "vm delete", row.name, row.id.hex()));
  services.protections->end_stream(vm);
  progress.step("remove disks and guest state");
  TRY(services.units->remove_vm(vm));
  services.consoles->forget(vm);
  progress.step("delete the key");
  Status deleted = services.vault.delete_key(vm);
  if (!deleted.ok() && deleted.error().code != ErrorCode::kNotFound)
    return std::move(deleted).error();
  TRY(services.catalog->remove_vm(vm, VmRemains::kNone));
  log_info("VM " + row.name + " (" + row.id.hex() + ") was deleted by " + options.actor);
  services.happened("vm.deleted", row.name,
                    "was deleted, with its disks and its key: " + row.id.hex(), progress.by());
  return sys::JsonObject{{"deleted", row.name}, {"id", row.id.hex()}};
}

}  // namespace hf::control
