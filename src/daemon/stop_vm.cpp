#include <fmt/format.h>

#include <algorithm>

#include "daemon/console.h"
#include "daemon/log.h"
#include "daemon/vm_operations.h"
#include "hypervisor/qmp_client.h"

namespace hf::daemon {
namespace {

using namespace std::chrono_literals;

// The guest's own shutdown, asked for by the ACPI power button: again and again, because firmware
// and a booting system do not hear it.
Status ask_guest(Services& services, const VmRow& row, std::chrono::seconds limit) {
  constexpr auto kAgain = std::chrono::milliseconds(5000);
  auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end) {
    hypervisor::QmpClient qmp(services.paths.run_file(row.id, "qmp.sock"), 5s);
    Status pressed = qmp.power_button();
    qmp.disconnect();
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (services.units->wait_end(qemu_unit(row.id), std::clamp(left, 0ms, kAgain)).ok()) return {};
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
  bool running = services.units->running(qemu_unit(vm));
  if (!running && !services.units->running(keeper_unit(vm))) {
    TRY(services.catalog->set_wanted(vm, false));
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" does not run",
                 .effect = "nothing was stopped",
                 .mend = "holdfast vm list"};
  }
  if (running && options.force) {
    progress.step("power off");
    TRY(power_off(services, row));
  } else if (running) {
    progress.step("ask the guest to shut down");
    TRY(ask_guest(services, row, options.guest_limit));
  }
  TRY(services.catalog->set_wanted(vm, false));
  progress.step("stop the keeper and take the key back");
  TRY(finish_vm(services, row));
  log_info("VM " + row.name + " was stopped");
  return vm_summary(services, row);
}

Result<sys::JsonObject> delete_vm(Services& services, VmId vm, const std::string& actor,
                                  Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  if (services.units->running(qemu_unit(vm)) || services.units->running(keeper_unit(vm))) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" runs",
                 .effect = "nothing was deleted",
                 .mend = "holdfast vm stop " + row.name};
  }
  if (services.catalog->protection(vm).ok()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" is protected",
                 .effect = "nothing was deleted",
                 .mend = "holdfast protection disable " + row.name};
  }
  TRY(services.catalog->audit(actor, "vm delete", row.name, row.id.hex()));
  progress.step("remove disks and guest state");
  TRY(services.units->remove_vm(vm));
  services.consoles->forget(vm);
  progress.step("delete the key");
  Status deleted = services.vault.delete_key(vm);
  if (!deleted.ok() && deleted.error().code != ErrorCode::kNotFound)
    return std::move(deleted).error();
  TRY(services.catalog->remove_vm(vm));
  log_info("VM " + row.name + " (" + row.id.hex() + ") was deleted by " + actor);
  return sys::JsonObject{{"deleted", row.name}, {"id", row.id.hex()}};
}

}  // namespace hf::daemon
