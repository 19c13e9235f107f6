#include <algorithm>

#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/title/titles.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr peer::Millis kAskLimit = 3s;
// Of a vault that began to count silence just now, and a little.
constexpr peer::Millis kSilenceLimit = 8s;

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
  const std::vector<SiteId> silent = TRY(services.titles->ask_members(row.id, kAskLimit));
  const VmRow now = TRY(services.catalog->vm(row.id));
  const auto refused = [&](const SiteId& site) -> Status {
    const recovery::RecoveryState state = recovery_state(now, true);
    Status may = recovery::may_start(state, std::nullopt, recovery::StartWord::kNone);
    if (may.ok()) return may;
    return where(std::move(may).error(), state.role, now, services.protections->peer_name(site));
  };
  if (now.role != VmRole::kActive) {
    return refused(TRY(services.vault.title(row.id)).head->statement().holder);
  }
  const vault::TitleView view = TRY(services.vault.title(row.id));
  if (!view.rivals.empty()) {
    return refused_by_title(services, row,
                            {.cause = title::Cause::kRival,
                             .action = title::Action::kSettle,
                             .site = view.rivals[0]->statement().holder},
                            "it does not start");
  }
  const auto counts = [&](const SiteId& site) { return view.head->statement().is_standby(site); };
  const auto held_by = std::ranges::find_if(silent, counts);
  if (held_by == silent.end()) return {};
  if (!options.without_peer) return refused(*held_by);
  TRY(services.catalog->audit(options.actor, "vm start --without-peer", row.name, row.id.hex()));
  TRY(services.titles->sign_within(
      row, {.kind = title::Kind::kGoOn, .subject = {}, .word = options.word}, kSilenceLimit));
  TRY(services.titles->ask_members(row.id, kAskLimit));
  return {};
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
