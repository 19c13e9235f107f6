#include <fmt/format.h>

#include <functional>
#include <thread>

#include "control/attest/attestation.h"
#include "control/core/log.h"
#include "control/host/accelerator.h"
#include "control/host/console.h"
#include "control/lifecycle/launching.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/machine.h"
#include "hypervisor/qmp_client.h"
#include "keeper_protocol/client.h"
#include "keeper_protocol/config.h"
#include "sys/fd.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using launcher::SocketAccess;

constexpr auto kKeeperLimit = 60s;  // it may have to recover a journal
constexpr auto kQemuLimit = 30s;
constexpr auto kAskAgain = 1500ms;
constexpr auto kAskWithin = 700ms;
constexpr auto kStopLimit = 60s;     // it closes the journal
constexpr auto kFencedLimit = 5s;    // of a VM that another site has: nothing waits for its close
constexpr auto kOthersLimit = 100s;  // somebody else is ending the same VM

// Asked all the while a start waits: an error ends it.
using GoOn = std::function<Status()>;

Result<launcher::StartRequest> keeper_request(const Services& services, const VmRow& row,
                                              const vm::Definition& definition,
                                              const LaunchOptions& options) {
  keeper_protocol::ServeConfig config{.vm = row.id,
                                      .site = services.site.site_id,
                                      .epoch = row.epoch,
                                      .journal_dir = services.paths.journal(row.id),
                                      .vault_socket = services.paths.vault_keys(),
                                      .vtpm = definition.vtpm,
                                      .vmgs_path = services.paths.vmgs(row.id),
                                      .look = options.look,
                                      .give_up_bad_tail = options.give_up_bad_tail};
  Result<ProtectionRow> protection = services.catalog->protection(row.id);
  if (protection.ok() && protection->direction == Direction::kOut &&
      protection->state != ProtectionState::kWithdrawing)
    config.peer_site = protection->peer;
  launcher::StartRequest request{
      .unit = keeper_unit(row.id),
      .kind = launcher::UnitKind::kKeeper,
      .vm = row.id,
      .vm_number = row.number,
      .bar = options.bar,
      .restart = options.look ? launcher::RestartPolicy::kNever : launcher::RestartPolicy::kAlways};
  auto add = [&](const std::string& name, const std::string& file, SocketAccess access) {
    request.sockets.push_back(
        {.name = name, .path = Paths::run_relative(row.id, file), .access = access});
  };
  for (const vm::Disk& disk : definition.disks) {
    config.volumes.push_back(
        {.id = VolumeId(disk.id), .name = disk.name, .size_bytes = disk.size_bytes});
    if (!options.look) add(disk.name, disk.name + ".nbd", SocketAccess::kVm);
  }
  add("control", "control.sock", SocketAccess::kDaemon);
  if (!options.look) {
    add("vars", "vars.nbd", SocketAccess::kVm);
    if (definition.vtpm) add("tpm", "tpm.sock", SocketAccess::kVm);
    add("ship", "ship.sock", SocketAccess::kDaemon);
  }
  request.config = keeper_protocol::encode_config(config);
  return request;
}

// Until its control socket says that it serves, or it ended for good.
Status wait_keeper(Services& services, const VmRow& row, const GoOn& go_on) {
  auto end = Clock::now() + kKeeperLimit;
  const keeper_protocol::Client keeper(services.paths.run_file(row.id, "control.sock"));
  Error last{.code = ErrorCode::kTimeout, .cause = "no answer"};
  auto asked = Clock::now();
  while (Clock::now() < end) {
    TRY(go_on());
    // What the other sites have said counts for three seconds; it may open later than that.
    if (Clock::now() - asked >= kAskAgain) {
      TRY(services.titles->ask_members(row.id, kAskWithin));
      asked = Clock::now();
    }
    Result<keeper_protocol::AnyStatus> status = keeper.ask(keeper_protocol::GetStatus{}, 1s);
    const auto* said = status.ok() ? std::get_if<keeper_protocol::ServeStatus>(&*status) : nullptr;
    if (said != nullptr && said->state == "serving") return {};
    if (!status.ok()) last = status.error();
    std::optional<UnitEnd> over = services.units->ended(keeper_unit(row.id));
    if (over && !over->will_restart) {
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

Status wait_qemu(Services& services, const VmRow& row, const GoOn& go_on) {
  auto end = Clock::now() + kQemuLimit;
  hypervisor::QmpClient qmp(services.paths.run_file(row.id, "qmp.sock"), 5s);
  std::string last = "no answer";
  while (Clock::now() < end) {
    TRY(go_on());
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

// In order: it closes the journal and writes the VMGS file. One that does not answer is ended; the
// journal then recovers at the next start.
Status stop_keeper(Services& services, const VmRow& row) {
  std::string unit = keeper_unit(row.id);
  if (services.units->running(unit)) {
    const auto limit = row.role == VmRole::kActive ? kStopLimit : kFencedLimit;
    const keeper_protocol::Client keeper(services.paths.run_file(row.id, "control.sock"));
    const int64_t pid = services.units->pid(unit);
    Result<keeper_protocol::Nothing> told = keeper.ask(keeper_protocol::Stop{}, 5s);
    if (!told.ok())
      log_warning("the keeper of " + row.name +
                  " could not be told to stop: " + told.error().cause);
    if (told.ok() && !services.units->wait_over(unit, pid, limit))
      log_warning(unit + " did not stop in order within " + std::to_string(limit.count()) + " s");
  }
  return services.units->stop(unit, 15, 10s);
}

// Its pid, once it serves. The VM's key is released to it.
Result<int64_t> start_keeper(Services& services, const VmRow& row, const vm::Definition& definition,
                             const LaunchOptions& options, const GoOn& go_on) {
  // The launcher keeps it for the successors that it starts, this process for one that it has to
  // start itself under a running guest; what keepers note in it is sealed
  // (keeper/guest_state/scratch.h).
  std::vector<int> scratch;
  if (!options.look) scratch.push_back(TRY(services.scratch.of(row.id, options.scratch)));
  TRY(services.vault.key_info(row.id));  // there and whole, before anything is started
  launcher::StartRequest request = TRY(keeper_request(services, row, definition, options));
  if (!options.look) request.fd_names = {"scratch"};
  // The directory has one owner at a time.
  Caretakers::Hold off(services.protections->caretakers(), row.id);
  int64_t pid = 0;
  {
    Reconciler::Pass pass = TRY(services.reconciler->pass(row));
    pid = TRY(services.units->start(request, scratch));
    // By now the vault knows from the launcher which user the keeper is; the keeper waits for this.
    Status released = services.vault.release(row.id);
    const bool gone = !released.ok() && released.error().code == ErrorCode::kConflict;
    if (!released.ok() && !gone) return released.error();
  }
  TRY(wait_keeper(services, row, go_on));  // of one that is gone already, it says why
  services.protections->look(row.id);
  return pid;
}

GoOn while_ours(Services& services, const VmRow& row) {
  return
      [&services, &row]() -> Status { return still_ours(row, TRY(services.catalog->vm(row.id))); };
}

Error ended_by_a_stop(const VmRow& row) {
  return Error{.code = ErrorCode::kConflict,
               .cause = "VM \"" + row.name + "\" was told to stop while it was started",
               .effect = "nothing of it runs",
               .mend = "holdfast vm start " + row.name};
}

Error cancelled(const VmRow& row) {
  return Error{.code = ErrorCode::kConflict,
               .cause = "the start of VM \"" + row.name + "\" was cancelled",
               .effect = "nothing of it runs",
               .mend = "holdfast vm start " + row.name};
}

}  // namespace

Status revive_keeper(Services& services, const VmRow& row) {
  vm::Definition definition = TRY(vm::parse_definition(row.definition));
  // The launcher forgets the unit that gave up.
  TRY(services.units->stop(keeper_unit(row.id), 9, 5s));
  TRY(start_keeper(services, row, definition, {.scratch = ScratchMemory::Use::kSame},
                   while_ours(services, row)));
  return {};
}

Status start_keeper_alone(Services& services, const VmRow& row, KeeperUse use) {
  vm::Definition definition = TRY(vm::parse_definition(row.definition));
  Undo undo;
  undo.add([&] { ignore_but_log(finish_vm(services, row)); });
  TRY(start_keeper(services, row, definition, {.look = use == KeeperUse::kLook},
                   while_ours(services, row)));
  undo.dismiss();
  return {};
}

// The launcher makes the same of it.
Status check_can_launch(const VmRow& row) {
  const vm::Definition definition = TRY(vm::parse_definition(row.definition));
  TRY(hypervisor::qemu_arguments(
      TRY(hypervisor::machine_of(definition, {.vm = row.id, .accelerator = accelerator()}))));
  return {};
}

Status Launching::goes_on() {
  if (progress_.preempted()) return ended_by_a_stop(row_);
  if (progress_.cancelled()) return cancelled(row_);
  return still_ours(row_, TRY(services_.catalog->vm(row_.id)));
}

Status Launching::keeper(const VmRow& row) {
  row_ = row;
  definition_ = TRY(vm::parse_definition(row.definition));
  launched_.keeper_pid =
      TRY(start_keeper(services_, row_, definition_, options_, [this] { return goes_on(); }));
  return {};
}

Status Launching::adopt() { return services_.attestation->adopt_from_journal(row_); }

Status Launching::guest() {
  const hypervisor::Accelerator chosen = accelerator();
  const launcher::StartRequest qemu{
      .unit = qemu_unit(row_.id),
      .kind = launcher::UnitKind::kQemu,
      .vm = row_.id,
      .vm_number = row_.number,
      .bar = options_.bar,
      .machine = launcher::Machine{.definition = definition_, .accelerator = chosen}};
  {
    Reconciler::Pass pass = TRY(services_.reconciler->pass(row_));
    launched_.qemu_pid = TRY(services_.units->start(qemu, {}));
  }
  services_.consoles->attach(row_.id, services_.paths.run_file(row_.id, "console.sock"),
                             ConsoleStart::kFresh);
  services_.attestation->vm_started(row_);
  const GoOn go_on = [this] { return goes_on(); };
  TRY(wait_qemu(services_, row_, go_on));
  TRY(go_on());
  progress_.step("vCPUs run");
  launched_.accelerator = chosen == hypervisor::Accelerator::kKvm ? "kvm" : "tcg";
  return {};
}

Status finish_vm(Services& services, const VmRow& row) {
  Reconciler::Turn turn = services.reconciler->turn_to_finish(row.id, kOthersLimit);
  if (!turn.owns_lock()) {
    return Error{.code = ErrorCode::kTimeout,
                 .cause = "VM \"" + row.name + "\" is being ended already, and that takes long",
                 .effect = "its guest is off; its keeper may still run",
                 .mend = "holdfast vm show " + row.name};
  }
  Status finished = finish_vm_in_turn(services, row);
  turn.unlock();
  services.protections->look(row.id);  // what its replica lacks is shipped on
  return finished;
}

Status finish_vm_in_turn(Services& services, const VmRow& row) {
  services.scratch.forget(row.id);
  services.attestation->vm_stopped(row.id);
  services.consoles->detach(row.id);
  Status stopped = stop_keeper(services, row);
  Status revoked = services.vault.revoke(row.id);
  TRY(std::move(stopped));
  return revoked;
}

}  // namespace hf::control
