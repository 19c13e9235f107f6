#include <algorithm>

#include "control/core/log.h"
#include "control/lifecycle/launching.h"
#include "control/lifecycle/words.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/title/titles.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr peer::Millis kAskLimit = 3s;

}  // namespace

// Asked without a start: for what a keeper does alone.
Status check_may_start(Services& services, const VmRow& row) {
  const std::vector<SiteId> silent = TRY(services.titles->ask_members(row.id, kAskLimit));
  const VmRow now = TRY(services.catalog->vm(row.id));
  const vault::TitleView view = TRY(services.vault.title(row.id));
  using lifecycle::Refusal;
  if (now.role != VmRole::kActive) {
    return refused_start(services, now, Refusal::kNotHolder, view.head->statement().holder);
  }
  if (!view.rivals.empty()) {
    return refused_start(services, now, Refusal::kRival, view.rivals[0]->statement().holder);
  }
  const auto counts = [&](const SiteId& site) { return view.head->statement().is_standby(site); };
  const auto held_by = std::ranges::find_if(silent, counts);
  if (held_by == silent.end()) return {};
  return refused_start(services, now, Refusal::kStandbySilent, *held_by);
}

namespace {

// The site that the refusal is about.
SiteId site_of(const ActOutcome& outcome) {
  const lifecycle::Title& title = outcome.observed.title;
  if (outcome.last.refusal == lifecycle::Refusal::kRival)
    return title.rivals[0]->statement().holder;
  const auto counts = [&](const SiteId& site) { return title.stands_by(site); };
  const auto silent = std::ranges::find_if(outcome.silent, counts);
  if (outcome.last.refusal == lifecycle::Refusal::kStandbySilent && silent != outcome.silent.end())
    return *silent;
  return title.head->statement().holder;
}

}  // namespace

Error worked_on(const VmRow& row) {
  return {
      .code = ErrorCode::kConflict,
      .cause = "VM \"" + row.name +
               "\" is worked on just now: it is being handed over, or its protection is changed",
      .effect = "nothing was started",
      .mend = "holdfast job list; then try again"};
}

Result<sys::JsonObject> start_vm(Services& services, VmId vm, const StartOptions& options,
                                 Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  if (!services.units->running(qemu_unit(vm))) {
    TRY(site_stays(services, row));
    TRY(is_made(row));
    TRY(check_can_launch(row));
    if (options.give_up_bad_tail) {
      TRY(services.catalog->audit(options.actor, "vm start --give-up-bad-tail", row.name,
                                  row.id.hex()));
    }
    if (options.without_peer)
      TRY(services.catalog->audit(options.actor, "vm start --without-peer", row.name,
                                  row.id.hex()));
  }
  // One that is being handed over is not started again in the middle of it.
  const std::optional<Turns::Turn> turn = services.protections->turns().take(vm, kStartTurn);
  if (!turn) return worked_on(row);
  // A fence from here on ends this start, wherever it is by then.
  const launcher::Bar bar = services.units->bar(vm);
  ActContext context{.word = options.word,
                     .actor = options.actor,
                     .launch = {.give_up_bad_tail = options.give_up_bad_tail, .bar = bar},
                     .progress = &progress};
  const ActOutcome done = TRY(
      ActRunner(services, vm, {.act = lifecycle::Act::kStart, .without_peer = options.without_peer},
                std::move(context))
          .run());
  row = TRY(services.catalog->vm(vm));
  if (!done.did(lifecycle::Done::kRuns)) {
    if (done.last.refusal == lifecycle::Refusal::kFailed && done.failed) return *done.failed;
    return refused_start(services, row, done.last.refusal, site_of(done));
  }
  log_info("VM " + row.name + " was started");
  services.happened("vm.started", row.name, "was started (" + done.launched.accelerator + ")",
                    progress.by());
  sys::JsonObject result = TRY(vm_summary(services, row));
  result["accelerator"] = done.launched.accelerator;
  result["qemu_pid"] = done.launched.qemu_pid;
  result["keeper_pid"] = done.launched.keeper_pid;
  return result;
}

}  // namespace hf::control
