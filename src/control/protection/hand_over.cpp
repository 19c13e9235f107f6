// The holder's side of a failover: the VM is stopped hard, all of it is shipped, and it is signed
// away (lifecycle::Machine::hand_over). Until the signature the VM is this site's as before, and
// starts again if anything fails.
#include "control/core/log.h"
#include "control/lifecycle/words.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
// Together with the act below what the asker waits.
constexpr Millis kTurnLimit = 14s;
}  // namespace

// The same words whether it is another site's VM or none. Asked again, because the answer was lost,
// the answer is the same.
Result<HandOverOutcome> Protections::hand_over(VmId vm, const PeerRow& to,
                                               std::chrono::milliseconds tail) {
  Result<VmRow> known = services_.catalog->vm(vm);
  Result<vault::TitleView> view = services_.vault.title(vm);
  if (!known.ok() || !view.ok() || !ever_named(services_, vm, *view, to.site)) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "this site and site " + to.name + " do not protect this VM together",
                 .effect = "nothing was done",
                 .mend = "holdfast protection show at both sites"};
  }
  const bool before = holds(*view, to.site);
  std::optional<Turns::Turn> turn = turns_.take(vm, kTurnLimit);
  if (!turn) return HandOverOutcome{.why = "the VM is worked on just now"};
  if (!before) {
    services_.peer_log.line(PeerDoes::kOrder, to.site,
                            "VM " + known->name + " is to be handed over to site " + to.name);
  }
  const ActOutcome outcome =
      TRY(ActRunner(services_, vm, {.act = lifecycle::Act::kHandOver, .peer = to.site},
                    {.tail_limit = tail})
              .run());
  if (!outcome.did(lifecycle::Done::kHandedOver))
    return HandOverOutcome{.why = refused_hand_over(services_, outcome, to)};
  if (!before) {
    services_.happened("vm.handed-over", known->name,
                       "was stopped, and handed over to site " + to.name + ", which has all of it",
                       by_of(to), Severity::kWarning);
  }
  return HandOverOutcome{.handed_over = true, .title = TRY(services_.titles->all(vm))};
}

// A VM that was stopped to be handed over, and was not signed away.
void Protections::start_again(VmId vm) {
  const auto needed = [this, vm] {
    const Result<VmRow> now = services_.catalog->vm(vm);
    return now.ok() && now->role == VmRole::kActive && now->wanted_running &&
           !services_.units->running(qemu_unit(vm));
  };
  services_.reconciler->add({.kind = "vm-start",
                             .vm = vm,
                             .needed = needed,
                             .work = [this, vm, needed](Progress& progress) {
                               if (!needed()) return Result<sys::JsonObject>(sys::JsonObject{});
                               return start_vm(services_, vm, {.actor = "holdfastd"}, progress);
                             }});
}

}  // namespace hf::control
