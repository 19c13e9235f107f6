#include <fmt/format.h>

#include <thread>

#include "daemon/accelerator.h"
#include "daemon/attestation.h"
#include "daemon/console.h"
#include "daemon/keeper_client.h"
#include "daemon/log.h"
#include "daemon/vm_operations.h"
#include "hypervisor/firmware.h"
#include "hypervisor/qemu_command.h"
#include "hypervisor/qmp_client.h"
#include "sys/fd.h"

namespace hf::daemon {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using launcher::SocketAccess;

constexpr auto kKeeperLimit = 60s;  // it may have to recover a journal
constexpr auto kQemuLimit = 30s;

hypervisor::FirmwareKind firmware_kind(const VmDefinition& definition) {
  return definition.secure_boot ? hypervisor::FirmwareKind::kSecureBoot
                                : hypervisor::FirmwareKind::kPlain;
}

launcher::StartRequest keeper_request(const Services& services, const VmRow& row,
                                      const VmDefinition& definition,
                                      const LaunchOptions& options) {
  sys::JsonArray volumes;
  launcher::StartRequest request{.unit = keeper_unit(row.id),
                                 .kind = launcher::UnitKind::kKeeper,
                                 .vm = row.id,
                                 .vm_number = row.number,
                                 .restart = launcher::RestartPolicy::kAlways};
  auto add = [&](const std::string& name, const std::string& file, SocketAccess access) {
    request.sockets.push_back(
        {.name = name, .path = Paths::run_relative(row.id, file), .access = access});
  };
  for (const DiskDefinition& disk : definition.disks) {
    volumes.push_back(
        sys::JsonObject{{"id", disk.id}, {"name", disk.name}, {"size_bytes", disk.size_bytes}});
    add(disk.name, disk.name + ".nbd", SocketAccess::kVm);
  }
  add("vars", "vars.nbd", SocketAccess::kVm);
  if (definition.vtpm) add("tpm", "tpm.sock", SocketAccess::kVm);
  add("control", "control.sock", SocketAccess::kDaemon);
  add("feed", "feed.sock", SocketAccess::kDaemon);
  request.config = sys::JsonObject{
      {"mode", "serve"},
      {"vm", row.id.hex()},
      {"site", services.site.site_id.hex()},
      {"epoch", row.epoch.value},
      {"journal_dir", services.paths.journal(row.id)},
      {"volumes", std::move(volumes)},
      {"vault_socket", services.paths.vault_keys()},
      {"vmgs_path", services.paths.vmgs(row.id)},
      {"give_up_bad_tail", options.give_up_bad_tail},
      {"protected", services.catalog->protection(row.id).ok()},
      {"security", {{"secure_boot", definition.secure_boot}, {"vtpm", definition.vtpm}}}};
  if (options.adopt_replica) request.adopt_dir = Paths::replica_relative(row.id);
  return request;
}

// Until its control socket says that it serves, or it ended for good.
Status wait_keeper(Services& services, const VmRow& row) {
  auto end = Clock::now() + kKeeperLimit;
  std::string control = services.paths.run_file(row.id, "control.sock");
  Error last{.code = ErrorCode::kTimeout, .cause = "no answer"};
  while (Clock::now() < end) {
    Result<sys::JsonObject> status = ask_keeper(control, {{"op", "status"}}, 1s);
    if (status.ok() && TRY(sys::get_string_or(*status, "state", "")) == "serving") return {};
    if (!status.ok()) last = status.error();
    if (std::optional<UnitEnd> over = services.units->ended(keeper_unit(row.id))) {
      return error_of_end("the VM's keeper", *over)
          .with_effect("the VM was not started")
          .with_mend("look at " + services.paths.state + "/run/log/" + keeper_unit(row.id) +
                     ".log");
    }
    std::this_thread::sleep_for(5ms);
  }
  return Error{
      .code = ErrorCode::kTimeout,
      .cause = "the VM's keeper did not serve within a minute: " + last.cause,
      .effect = "the VM was not started",
      .mend = "look at " + services.paths.state + "/run/log/" + keeper_unit(row.id) + ".log"};
}

Result<launcher::StartRequest> qemu_request(const Services& services, const VmRow& row,
                                            const VmDefinition& definition,
                                            hypervisor::Accelerator accelerator) {
  hypervisor::QemuDefinition qemu{
      .name = definition.name,
      .vm = row.id,
      .machine_type = definition.machine_type,
      .accelerator = accelerator,
      .cpus = definition.cpus,
      .memory_mib = definition.memory_mib,
      .security = {.secure_boot = definition.secure_boot, .vtpm = definition.vtpm}};
  Digest build = TRY(Digest::parse_hex(definition.firmware.build));
  TRY(hypervisor::check_machine_type(definition.machine_type));
  qemu.firmware_code =
      TRY(hypervisor::require_firmware(firmware_kind(definition), build)).code_path;
  qemu.vars_socket_path = services.paths.run_file(row.id, "vars.nbd");
  if (definition.vtpm) qemu.tpm_socket_path = services.paths.run_file(row.id, "tpm.sock");
  for (const DiskDefinition& disk : definition.disks) {
    qemu.disks.push_back(
        {.name = disk.name, .socket_path = services.paths.run_file(row.id, disk.name + ".nbd")});
  }
  bool host_network = false;
  for (const NicDefinition& nic : definition.nics) {
    bool user = nic.network == "user";
    host_network = host_network || user;
    qemu.nics.push_back(
        {.mac = nic.mac,
         .network = user ? hypervisor::Network::kUser : hypervisor::Network::kNone});
  }
  qemu.qmp_fd = launcher::fd_number(0);
  qemu.console_fd = launcher::fd_number(1);
  qemu.guest_agent = definition.guest_agent;
  qemu.guest_agent_fd = launcher::fd_number(2);
  launcher::StartRequest request{.unit = qemu_unit(row.id),
                                 .kind = launcher::UnitKind::kQemu,
                                 .vm = row.id,
                                 .vm_number = row.number,
                                 .argv = TRY(hypervisor::qemu_arguments(qemu)),
                                 .host_network = host_network};
  request.sockets.push_back({.name = "qmp",
                             .path = Paths::run_relative(row.id, "qmp.sock"),
                             .access = SocketAccess::kDaemon});
  request.sockets.push_back({.name = "console",
                             .path = Paths::run_relative(row.id, "console.sock"),
                             .access = SocketAccess::kDaemon});
  if (definition.guest_agent) {
    request.sockets.push_back({.name = "guest-agent",
                               .path = Paths::run_relative(row.id, "qga.sock"),
                               .access = SocketAccess::kDaemon});
  }
  return request;
}

Status wait_qemu(Services& services, const VmRow& row) {
  auto end = Clock::now() + kQemuLimit;
  hypervisor::QmpClient qmp(services.paths.run_file(row.id, "qmp.sock"), 5s);
  std::string last = "no answer";
  while (Clock::now() < end) {
    Result<std::string> status = qmp.status();
    if (status.ok() && *status == "running") return {};
    last = status.ok() ? *status : status.error().cause;
    if (std::optional<UnitEnd> over = services.units->ended(qemu_unit(row.id))) {
      return error_of_end("QEMU", *over)
          .with_effect("the VM was not started")
          .with_mend("look at " + services.paths.state + "/run/log/" + qemu_unit(row.id) + ".log");
    }
    std::this_thread::sleep_for(5ms);
  }
  return Error{
      .code = ErrorCode::kTimeout,
      .cause = "QEMU did not run its vCPUs within 30 seconds: " + last,
      .effect = "the VM was not started",
      .mend = "look at " + services.paths.state + "/run/log/" + qemu_unit(row.id) + ".log"};
}

void ignore_but_log(const Status& status) {
  if (!status.ok()) log_error(status.error().describe());
}

}  // namespace

namespace {

// In order: it closes the journal and writes the VMGS file. One that does not answer is ended; the
// journal then recovers at the next start.
Status stop_keeper(Services& services, const VmRow& row) {
  std::string unit = keeper_unit(row.id);
  if (services.units->running(unit)) {
    Result<sys::JsonObject> told =
        ask_keeper(services.paths.run_file(row.id, "control.sock"), {{"op", "stop"}}, 5s);
    if (!told.ok())
      log_warning("the keeper of " + row.name +
                  " could not be told to stop: " + told.error().cause);
    if (told.ok() && !services.units->wait_end(unit, 60s).ok())
      log_warning(unit + " did not stop within a minute");
  }
  return services.units->stop(unit, 15, 10s);
}

}  // namespace

namespace {

// Its pid, once it serves.
Result<int64_t> start_keeper(Services& services, const VmRow& row, const VmDefinition& definition,
                             const LaunchOptions& options) {
  // The launcher keeps it for the successors that it starts, this process for one that it has to
  // start itself under a running guest; what keepers note in it is sealed
  // (keeper/guest_state/scratch.h).
  const int scratch = TRY(services.scratch.of(row.id, options.scratch));
  launcher::StartRequest request = keeper_request(services, row, definition, options);
  request.fd_names = {"scratch"};
  int64_t pid = TRY(services.units->start(request, {scratch}));
  TRY(wait_keeper(services, row));
  return pid;
}

}  // namespace

Status revive_keeper(Services& services, const VmRow& row) {
  VmDefinition definition = TRY(parse_definition(row.definition));
  TRY(services.vault.release(row.id, services.users.keeper(row.number)));
  // The launcher forgets the unit that gave up.
  TRY(services.units->stop(keeper_unit(row.id), 9, 5s));
  TRY(start_keeper(services, row, definition, {.scratch = ScratchMemory::Use::kSame}));
  return {};
}

Status start_keeper_alone(Services& services, const VmRow& row) {
  VmDefinition definition = TRY(parse_definition(row.definition));
  Undo undo;
  TRY(services.vault.release(row.id, services.users.keeper(row.number)));
  undo.add([&] { ignore_but_log(services.vault.revoke(row.id)); });
  undo.add([&] { ignore_but_log(stop_keeper(services, row)); });
  TRY(start_keeper(services, row, definition, {}));
  undo.dismiss();
  return {};
}

Result<Launched> launch_vm(Services& services, const VmRow& row, const LaunchOptions& options,
                           Progress& progress) {
  VmDefinition definition = TRY(parse_definition(row.definition));
  hypervisor::Accelerator chosen = accelerator();
  // Before anything runs: what is wrong with the command line or the firmware shows here.
  launcher::StartRequest qemu = TRY(qemu_request(services, row, definition, chosen));
  Undo undo;
  progress.step("release the VM's key to its keeper");
  TRY(services.vault.release(row.id, services.users.keeper(row.number)));
  undo.add([&] { ignore_but_log(services.vault.revoke(row.id)); });

  progress.step("start the keeper");
  undo.add([&] { ignore_but_log(stop_keeper(services, row)); });
  Launched launched;
  launched.keeper_pid = TRY(start_keeper(services, row, definition, options));
  // Not by what the launcher has still to do: it renamed the replica before the keeper ran, and an
  // earlier start may have ended between the two.
  if (options.adopt_replica || row.adopt_pending) {
    TRY(services.attestation->adopt_from_journal(row));
  }

  progress.step("start QEMU");
  undo.add([&] { ignore_but_log(services.units->stop(qemu_unit(row.id), 9, 5s)); });
  launched.qemu_pid = TRY(services.units->start(qemu, {}));
  services.consoles->attach(row.id, services.paths.run_file(row.id, "console.sock"),
                            ConsoleStart::kFresh);
  undo.add([&] { services.consoles->detach(row.id); });
  services.attestation->vm_started(row);
  undo.add([&] { services.attestation->vm_stopped(row.id); });
  TRY(wait_qemu(services, row));
  progress.step("vCPUs run");
  undo.dismiss();
  launched.accelerator = chosen == hypervisor::Accelerator::kKvm ? "kvm" : "tcg";
  return launched;
}

Status finish_vm(Services& services, const VmRow& row) {
  services.scratch.forget(row.id);
  services.attestation->vm_stopped(row.id);
  services.consoles->detach(row.id);
  Status stopped = stop_keeper(services, row);
  Status revoked = services.vault.revoke(row.id);
  TRY(std::move(stopped));
  return revoked;
}

}  // namespace hf::daemon
