#include "control/services.h"

#include "base/version.h"
#include "control/attest/attestation.h"
#include "control/core/log.h"
#include "control/host/console.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/title/titles.h"
#include "control/vm/cut_off_jobs.h"
#include "control/vm/reconciler.h"
#include "control/vm/unit_events.h"
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
  if (Status kept = catalog->keep_room(); !kept.ok())
    log_warning("no room is kept back for a full disk: " + kept.error().describe());
  limited_events = std::make_unique<LimitedEvents>(*catalog);
  consoles = std::make_unique<ConsoleHub>();
  peers = std::make_unique<PeerService>(*this);
  protections = std::make_unique<Protections>(*this);
  titles = std::make_unique<TitleKeeper>(*this);
  attestation = std::make_unique<Attestation>(*this);
  reconciler = std::make_unique<Reconciler>(*this);
  jobs = std::make_unique<JobEngine>(*catalog);
  unit_events = std::make_unique<UnitEvents>(*this);
  units = std::make_unique<Units>(
      std::move(launcher_socket), [this](const launcher::Event& event) { on_event(event); },
      [this] {
        if (on_launcher_lost) on_launcher_lost();
      });
  units->set_on_doubt([this] { reconciler->wake(); });
  TRY(peers->identify());
  // The launcher takes its first question for "it serves": all that can fail was before.
  TRY(units->refresh());
  TRY(take_up_running());
  tell_beginning();
  TRY(peers->start());
  protections->start();
  titles->start();
  reconciler->start();
  std::lock_guard lock(event_mutex_);
  serving_ = true;
  if (close_within_) close_within(*close_within_);
  return {};
}

void Services::stop() {
  ending = true;
  {
    std::lock_guard lock(event_mutex_);
    serving_ = false;
  }
  // First what jobs may wait for.
  if (attestation) attestation->stop();
  if (reconciler) reconciler->stop();  // it submits jobs
  jobs.reset();
  if (titles) titles->stop();
  if (protections) protections->stop();
  if (peers) peers->stop();
  consoles.reset();
  units.reset();
}

// What runs since before this process. A VM that another site took over meanwhile is not taken up
// again: it ends, whatever kept the last holdfastd from ending it.
Status Services::take_up_running() {
  for (const VmRow& row : TRY(catalog->vms())) {
    if (row.role == VmRole::kCreating) {
      Status removed = remove_cut_off(*this, row);
      if (!removed.ok()) log_error(removed.error().describe());
      continue;
    }
    if (!units->running(keeper_unit(row.id)) && !units->running(qemu_unit(row.id))) continue;
    if (row.role != VmRole::kActive) {
      Status fenced = reconciler->fence(row.id);  // tried again until it is done
      if (!fenced.ok()) log_error(fenced.error().describe());
      continue;
    }
    // A keeper of ours that runs on: its VM stays released, should vault or keeper begin anew.
    release(row);
    if (!units->running(qemu_unit(row.id))) continue;
    unit_events->take_up(row.id);
    log_info("VM " + row.name + " runs on");
    consoles->attach(row.id, paths.run_file(row.id, "console.sock"), ConsoleStart::kGoingOn);
    attestation->vm_runs_on(row);
  }
  return {};
}

void Services::happened(std::string kind, const std::string& subject, std::string text,
                        const By& by, Severity severity) {
  tell(*catalog, {.severity = severity,
                  .kind = std::move(kind),
                  .subject = subject,
                  .text = std::move(text),
                  .by = by});
}

// What the holdfastd before this one has left, now that it is known what runs.
void Services::tell_beginning() {
  happened("site.serves", kTheSite, "holdfastd " HOLDFAST_VERSION " serves", {});
  for (const JobRow& job : jobs->interrupted()) {
    Became became = what_became(*this, job);
    jobs->explain_interrupted(job, std::move(became.effect), std::move(became.mend));
  }
}

void Services::release(const VmRow& row) {
  auto pass = reconciler->pass(row);
  Status released = pass.ok() ? release_passing(row) : pass.error();
  if (released.ok() || released.error().code == ErrorCode::kConflict) return;
  log_error(released.error().describe());
}

Status Services::release_passing(const VmRow& row) {
  Status released = vault.release(row.id);
  // Without a keeper there is nobody to release it to; who starts one releases it then.
  if (!released.ok() && released.error().code != ErrorCode::kConflict) return released;
  return {};
}

void Services::on_event(const launcher::Event& event) {
  std::lock_guard lock(event_mutex_);
  if (event.kind == launcher::Event::Kind::kClosing) {
    closing.until(Closing::Time::max());
    close_within_ = std::chrono::milliseconds(event.limit_ms);
    if (serving_) close_within(*close_within_);
    return;
  }
  if (serving_) unit_events->take(event);
}

// For good: the launcher ends this process when no guest runs any more, or the limit is over.
void Services::close_within(std::chrono::milliseconds limit) {
  Result<uint64_t> job =
      jobs->submit("site-stop", kTheSite,
                   [this, limit](Progress& progress) {
                     return stop_guests(*this, {.limit = limit, .actor = "launcher"}, progress);
                   },
                   {.by = {.actor = "launcher", .origin = ""},
                    .not_cancelled = "the launcher has been told to end the site"});
  if (!job.ok()) log_error(job.error().describe());
}

}  // namespace hf::control
