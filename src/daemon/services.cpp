#include "daemon/services.h"

#include "daemon/console.h"
#include "daemon/log.h"
#include "daemon/peer_service.h"
#include "daemon/protections.h"
#include "daemon/vm_operations.h"

namespace hf::daemon {

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
  jobs = std::make_unique<JobEngine>(*catalog);
  units = std::make_unique<Units>(
      std::move(launcher_socket), [this](const launcher::Event& event) { on_event(event); },
      [this] {
        if (on_launcher_lost) on_launcher_lost();
      });
  TRY(peers->start());
  // The launcher takes its first question for "it serves": all that can fail was before.
  TRY(units->refresh());
  for (const VmRow& row : TRY(catalog->vms())) {
    if (!units->running(keeper_unit(row.id))) continue;
    // A keeper of ours that runs on: its VM stays released, should vault or keeper begin anew.
    Status released = vault.release(row.id, users.keeper(row.number));
    if (!released.ok()) log_error(released.error().describe());
    if (!units->running(qemu_unit(row.id))) continue;
    log_info("VM " + row.name + " runs on");
    consoles->attach(row.id, paths.run_file(row.id, "console.sock"), ConsoleStart::kGoingOn);
  }
  protections->start();
  return {};
}

void Services::stop() {
  jobs.reset();
  if (protections) protections->stop();
  if (peers) peers->stop();
  consoles.reset();
  units.reset();
}

// On the launcher client's thread: what takes time becomes a job.
void Services::on_event(const launcher::Event& event) {
  if (event.kind == launcher::Event::Kind::kStarted) {
    if (event.unit != "vault") return;
    // It forgot which VMs are released; their keepers could not come back after a death.
    Result<std::vector<VmRow>> rows = catalog->vms();
    for (const VmRow& row : rows.ok() ? *rows : std::vector<VmRow>()) {
      if (units && units->running(keeper_unit(row.id))) {
        static_cast<void>(vault.release(row.id, users.keeper(row.number)));
      }
    }
    return;
  }
  if (event.exit_status != 0 || event.signal != 0) {
    log_warning(event.unit + " ended: status " + std::to_string(event.exit_status) + ", signal " +
                std::to_string(event.signal) + (event.will_restart ? ", it is started again" : ""));
  }
  std::optional<VmId> vm = vm_of_qemu_unit(event.unit);
  if (!vm || !jobs) return;
  Result<VmRow> row = catalog->vm(*vm);
  if (!row.ok()) return;
  bool by_itself = event.exit_status == 0 && event.signal == 0;
  // A job that stops or starts the VM right now does all this itself: then this one is refused.
  static_cast<void>(jobs->submit("vm-ended", row->name, [this, vm = *vm, by_itself](Progress&) -> Result<sys::JsonObject> {
    VmRow ended = TRY(catalog->vm(vm));
    if (units->running(qemu_unit(vm))) return sys::JsonObject{};
    if (by_itself) TRY(catalog->set_wanted(vm, false));  // the guest shut itself down
    TRY(finish_vm(*this, ended));
    return sys::JsonObject{{"vm", ended.name}};
  }));
}

}  // namespace hf::daemon
