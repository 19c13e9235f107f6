#include "control/vm/unit_events.h"

#include "control/core/log.h"
#include "control/host/console.h"
#include "control/protection/protections.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"
#include "sys/json.h"

namespace hf::control {

using Clock = std::chrono::steady_clock;

namespace {
// On a disk that is full still, the first write ends it within milliseconds.
constexpr std::chrono::seconds kStandsAfter{3};

std::string words_of_end(const launcher::Event& event) {
  return event.signal != 0 ? "was killed by signal " + std::to_string(event.signal)
                           : "ended with status " + std::to_string(event.exit_status);
}

}  // namespace

UnitEvents::UnitEvents(Services& services, Revive revive)
    : services_(services), revive_(revive ? std::move(revive) : [&services](const VmRow& row) {
        return revive_keeper(services, row);
      }) {}

// What takes time becomes a job, when no other works on the VM. One that starts or stops it does
// all this itself.
void UnitEvents::take(const launcher::Event& event) {
  // A keeper that the launcher starts again may be one that must not run.
  services_.reconciler->wake();
  services_.protections->on_event(event);
  if (event.kind == launcher::Event::Kind::kStarted) {
    // Its keepers could not come back after a death.
    if (event.unit == "vault") services_.reconciler->release_running();
    if (std::optional<VmId> vm = vm_of_unit(event.unit, "keeper-")) runs_again_if_it_stands(*vm);
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

void UnitEvents::on_qemu_ended(VmId vm, const launcher::Event& event) {
  revivals_.forget(vm);
  stalls_.ends(vm);
  // One that was asked to, because the site is stopped, is wanted when it is started again.
  const bool by_itself = event.exit_status == 0 && event.signal == 0 && !services_.closing.now();
  services_.reconciler->add(
      {.kind = "vm-ended",
       .vm = vm,
       .needed =
           [this, vm] {
             // What finish_vm() would end.
             const bool left =
                 services_.units->running(keeper_unit(vm)) || services_.consoles->attached(vm);
             return left && !services_.units->running(qemu_unit(vm));
           },
       .work = [this, vm, by_itself, how = words_of_end(event),
                closing = services_.closing.now()](Progress&) -> Result<sys::JsonObject> {
         VmRow ended = TRY(services_.catalog->vm(vm));
         if (services_.units->running(qemu_unit(vm))) return sys::JsonObject{};
         if (by_itself) {
           services_.happened("vm.stopped", ended.name, "its guest shut itself down",
                              {.actor = "the guest", .origin = ""});
         } else if (closing) {
           services_.happened("vm.stopped", ended.name,
                              "its guest shut down, because the site is being stopped", {});
         } else if (ended.role == VmRole::kActive) {
           services_.happened("vm.ended", ended.name, "QEMU " + how + ": the VM does not run", {},
                              Severity::kAlert);
         }
         if (by_itself)
           TRY(services_.catalog->set_wanted(vm, false));  // the guest shut itself down
         TRY(finish_vm(services_, ended));
         return sys::JsonObject{{"vm", ended.name}};
       }});
}

void UnitEvents::on_keeper_ended(VmId vm, const launcher::Event& event) {
  if (!services_.units->running(qemu_unit(vm))) return;
  const std::optional<Error> said = sys::find_start_failure(event.stderr_tail);
  // Killed, say: it is back in a moment.
  if (event.will_restart && !said) return;
  Result<VmRow> row = services_.catalog->vm(vm);
  if (!row.ok()) return;
  if (event.will_restart) {
    // The launcher does that, ever more slowly.
    const bool again = stalls_.ended_before(vm);
    if (again || said->code == ErrorCode::kNoSpace) stalled(*row, *said);
    return;
  }
  Error why = error_of_end(
      "the keeper",
      {.exit_status = event.exit_status, .signal = event.signal, .stderr_tail = event.stderr_tail});
  log_error("the keeper of VM " + row->name + " gave up under the running guest: " + why.cause);
  stalled(*row, std::move(why));
  revive(vm);
}

// One that the launcher is about to start again counts as running there. Why it ended shows when it
// is tried.
void UnitEvents::take_up(VmId vm) {
  if (services_.units->running(qemu_unit(vm)) && !services_.units->running(keeper_unit(vm)))
    revive(vm);
}

// Its guest waits for its disks: it sees no error, and does nothing.
void UnitEvents::stalled(const VmRow& row, Error why) {
  if (why.effect.empty()) why.effect = "the guest stands still until its keeper serves again";
  if (why.mend.empty()) {
    why.mend = "look at " + services_.paths.state + "/run/log/" + keeper_unit(row.id) +
               ".log; the keeper is started again by itself";
  }
  if (!stalls_.begins(row.id, why)) return;
  services_.happened("vm.stalled", row.name, "stands still: " + why.cause + "; mend: " + why.mend,
                     {}, Severity::kAlert);
}

void UnitEvents::runs_again_if_it_stands(VmId vm) {
  if (!stalls_.doubtful(vm)) return;
  services_.reconciler->add({.kind = "keeper-stands",
                             .vm = vm,
                             .needed =
                                 [this, vm] {
                                   return stalls_.doubtful(vm) &&
                                          services_.units->running(keeper_unit(vm)) &&
                                          services_.units->running(qemu_unit(vm));
                                 },
                             .work = [this, vm](Progress&) -> Result<sys::JsonObject> {
                               VmRow row = TRY(services_.catalog->vm(vm));
                               if (!stalls_.ends(vm)) return sys::JsonObject{};
                               log_info("VM " + row.name + " runs on");
                               services_.happened("vm.runs-on", row.name, "runs on", {});
                               return sys::JsonObject{};
                             },
                             .not_before = Clock::now() + kStandsAfter,
                             .record = JobRecord::kNone});
}

// When it is due; without a row in the catalog, because it may be tried for as long as the guest
// runs.
void UnitEvents::revive(VmId vm) {
  auto needed = [this, vm] {
    return services_.units->running(qemu_unit(vm)) && !services_.units->running(keeper_unit(vm));
  };
  services_.reconciler->add(
      {.kind = "keeper-revive",
       .vm = vm,
       .needed = needed,
       .work = [this, vm, needed](Progress& progress) -> Result<sys::JsonObject> {
         VmRow ended = TRY(services_.catalog->vm(vm));
         if (ended.role != VmRole::kActive || !services_.units->running(qemu_unit(vm)))
           return sys::JsonObject{};
         progress.step("start the keeper again");
         revivals_.begins(vm);
         Status revived = revive_(ended);
         if (revived.ok()) {
           revivals_.stands(vm, Clock::now());
           log_info("the keeper of VM " + ended.name + " runs again");
           runs_again_if_it_stands(vm);
           return sys::JsonObject{{"vm", ended.name}};
         }
         // One that was not even begun has no end that would be told.
         if (needed()) {
           stalled(ended, revived.error());
           revive(vm);
         }
         return std::move(revived).error();
       },
       .not_before = revivals_.due(vm, Clock::now()),
       .record = JobRecord::kNone});
}

}  // namespace hf::control
