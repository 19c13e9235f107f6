#include "control/services.h"

#include "control/attest/attestation.h"
#include "control/core/log.h"
#include "control/host/console.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

static_assert(kVmNumberLast == launcher::kVmNumberMax);

Services::Services(Paths where, launcher::SiteConfig config)
    : paths(std::move(where)),
      site(std::move(config)),
      users{.uid_base = site.uid_base, .self = ::geteuid()},
      vault({.socket_path = paths.vault_admin()}) {}

Services::~Services() { stop(); }

Status Services::start(sys::UniqueFd launcher_socket) {
  catalog = TRY(Catalog::open(paths.catalog()));
  consoles = std::make_unique<ConsoleHub>();
  peers = std::make_unique<PeerService>(*this);
  protections = std::make_unique<Protections>(*this);
  attestation = std::make_unique<Attestation>(*this);
  reconciler = std::make_unique<Reconciler>(*this);
  jobs = std::make_unique<JobEngine>(*catalog);
  units = std::make_unique<Units>(
      std::move(launcher_socket), [this](const launcher::Event& event) { on_event(event); },
      [this] {
        if (on_launcher_lost) on_launcher_lost();
      });
  TRY(peers->identify());
  // The launcher takes its first question for "it serves": all that can fail was before.
  TRY(units->refresh());
  TRY(take_up_running());
  TRY(peers->start());
  protections->start();
  reconciler->start();
  std::lock_guard lock(event_mutex_);
  serving_ = true;
  return {};
}

void Services::stop() {
  {
    std::lock_guard lock(event_mutex_);
    serving_ = false;
  }
  // First what jobs may wait for.
  if (attestation) attestation->stop();
  if (reconciler) reconciler->stop();  // it submits jobs
  jobs.reset();
  if (protections) protections->stop();
  if (peers) peers->stop();
  consoles.reset();
  units.reset();
}

// What runs since before this process. A VM that another site took over meanwhile is not taken up
// again: it ends, whatever kept the last holdfastd from ending it.
Status Services::take_up_running() {
  for (const VmRow& row : TRY(catalog->vms())) {
    // A keeper that is down just now under a running guest comes back in a moment.
    if (!units->running(keeper_unit(row.id)) && !units->running(qemu_unit(row.id))) continue;
    if (row.role != VmRole::kActive) {
      Status fenced = reconciler->fence(row.id);  // tried again until it is done
      if (!fenced.ok()) log_error(fenced.error().describe());
      continue;
    }
    // A keeper of ours that runs on: its VM stays released, should vault or keeper begin anew.
    release(row);
    if (!units->running(qemu_unit(row.id))) continue;
    log_info("VM " + row.name + " runs on");
    consoles->attach(row.id, paths.run_file(row.id, "console.sock"), ConsoleStart::kGoingOn);
    attestation->vm_runs_on(row);
  }
  return {};
}

void Services::release(const VmRow& row) {
  auto pass = reconciler->pass(row);
  Status released = pass.ok() ? vault.release(row.id) : pass.error();
  // Without a keeper there is nobody to release it to; who starts one releases it then.
  if (released.ok() || released.error().code == ErrorCode::kConflict) return;
  log_error(released.error().describe());
}

// The vault forgot which VMs are released; their keepers could not come back after a death.
void Services::release_running() {
  Result<std::vector<VmRow>> rows = catalog->vms();
  if (!rows.ok()) return log_error(rows.error().describe());
  for (const VmRow& row : *rows) {
    const bool runs = units->running(keeper_unit(row.id)) || units->running(qemu_unit(row.id));
    if (runs && row.role == VmRole::kActive) release(row);
  }
}

// On the launcher client's thread: what takes time becomes a job, when no other works on the VM.
// One that starts or stops it does all this itself.
void Services::on_event(const launcher::Event& event) {
  std::lock_guard lock(event_mutex_);
  if (!serving_) return;
  // A keeper that the launcher starts again may be one that must not run.
  reconciler->wake();
  protections->on_event(event);
  if (event.kind == launcher::Event::Kind::kStarted) {
    if (event.unit == "vault") reconciler->vault_began();
    return;
  }
  if (event.exit_status != 0 || event.signal != 0) {
    log_warning(event.unit + " ended: status " + std::to_string(event.exit_status) + ", signal " +
                std::to_string(event.signal) + (event.will_restart ? ", it is started again" : ""));
  }
  if (std::optional<VmId> vm = vm_of_unit(event.unit, "qemu-")) return on_qemu_ended(*vm, event);
  if (std::optional<VmId> vm = vm_of_unit(event.unit, "keeper-"))
    return on_keeper_ended(*vm, event);
}

void Services::on_qemu_ended(VmId vm, const launcher::Event& event) {
  bool by_itself = event.exit_status == 0 && event.signal == 0;
  reconciler->add({.kind = "vm-ended",
                   .vm = vm,
                   .needed =
                       [this, vm] {
                         // What finish_vm() would end.
                         const bool left =
                             units->running(keeper_unit(vm)) || consoles->attached(vm);
                         return left && !units->running(qemu_unit(vm));
                       },
                   .work = [this, vm, by_itself](Progress&) -> Result<sys::JsonObject> {
                     VmRow ended = TRY(catalog->vm(vm));
                     if (units->running(qemu_unit(vm))) return sys::JsonObject{};
                     if (by_itself)
                       TRY(catalog->set_wanted(vm, false));  // the guest shut itself down
                     TRY(finish_vm(*this, ended));
                     return sys::JsonObject{{"vm", ended.name}};
                   }});
}

void Services::on_keeper_ended(VmId vm, const launcher::Event& event) {
  if (event.will_restart || !units->running(qemu_unit(vm))) return;
  Result<VmRow> row = catalog->vm(vm);
  if (!row.ok()) return;
  log_error("the keeper of VM " + row->name + " gave up under the running guest: " +
            error_of_end("it", {.exit_status = event.exit_status,
                                .signal = event.signal,
                                .stderr_tail = event.stderr_tail})
                .cause);
  reconciler->add(
      {.kind = "keeper-revive",
       .vm = vm,
       .needed = [this,
                  vm] { return units->running(qemu_unit(vm)) && !units->running(keeper_unit(vm)); },
       .work = [this, vm](Progress& progress) -> Result<sys::JsonObject> {
         VmRow ended = TRY(catalog->vm(vm));
         if (ended.role != VmRole::kActive || !units->running(qemu_unit(vm)))
           return sys::JsonObject{};
         progress.step("start the keeper again");
         TRY(revive_keeper(*this, ended));
         return sys::JsonObject{{"vm", ended.name}};
       }});
}

}  // namespace hf::control
