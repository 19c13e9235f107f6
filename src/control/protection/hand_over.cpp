// The holder's side of a failover: the VM is stopped hard, all of it is shipped, and it is signed
// away. Until the signature the VM is this site's as before, and starts again if anything fails.
#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// Together below what the asker waits.
constexpr Millis kTurnLimit = 3s;
// Who ends the protection meanwhile asks the taker, which lets it wait for less than that.
constexpr Millis kProtectionTurn = 5s;
constexpr Millis kAskLimit = 2s;
constexpr Millis kTailLimit = 10s;
constexpr Millis kLook = 5ms;

Result<HandOverOutcome> not_done(std::string why) { return HandOverOutcome{.why = std::move(why)}; }

}  // namespace

// The same words whether it is another site's VM or none. Asked again, because the answer was lost,
// the answer is the same.
Result<HandOverOutcome> Protections::hand_over(VmId vm, const PeerRow& to) {
  // While it is given away nobody ends its protection, nor begins one, nor gives it a second time.
  const std::optional<Turns::Turn> alone = turns_.take(vm, kProtectionTurn);
  Result<VmRow> known = services_.catalog->vm(vm);
  Result<vault::TitleView> view = services_.vault.title(vm);
  if (!known.ok() || !view.ok() || !ever_named(services_, vm, *view, to.site)) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "this site and site " + to.name + " do not protect this VM together",
                 .effect = "nothing was done",
                 .mend = "holdfast protection show at both sites"};
  }
  const VmRow row = *std::move(known);
  if (!alone) return not_done("its protection is being changed there, or it is being handed over");
  if (holds(*view, to.site)) {
    return HandOverOutcome{.handed_over = true, .title = TRY(services_.titles->all(vm))};
  }
  if (!holds(*view, services_.site.site_id) || row.role != VmRole::kActive) {
    return not_done("site " + peer_name(view->head->statement().holder) + " holds the VM");
  }
  if (!view->head->statement().is_standby(to.site)) {
    return not_done("site " + to.name + " does not stand by for the VM yet: it has not all of it");
  }
  // Before anything stops, the taker has shown that it can.
  Result<TitleKeeper::Exchanged> asked = services_.titles->exchange(vm, to.site, kAskLimit);
  if (!asked.ok())
    return not_done("the vault of site " + to.name + " did not answer: " + asked.error().cause);
  if (!asked->answer.prepared) return not_done("site " + to.name + " could not run the VM");
  // A protection that was to end, and has not: the site that stands by has been quicker.
  Result<ProtectionRow> protection = services_.catalog->protection(vm);
  if (protection.ok() && protection->direction == Direction::kOut && protection->peer == to.site &&
      protection->state == ProtectionState::kWithdrawing) {
    protection->state = ProtectionState::kStands;
    TRY(services_.catalog->put_protection(*protection));
    streams_.add(vm, to.site);
  }
  log_peer(PeerLog::kOrder, "VM " + row.name + " is handed over to site " + to.name);
  const bool ran = services_.units->running(qemu_unit(vm));
  Result<bool> handed = give(row, to);
  if (handed.ok() && *handed) {
    services_.happened("vm.handed-over", row.name,
                       "was stopped, and handed over to site " + to.name + ", which has all of it",
                       by_of(to), Severity::kWarning);
    return HandOverOutcome{.handed_over = true, .title = TRY(services_.titles->all(vm))};
  }
  std::string why = handed.ok() ? "not all of the VM reached site " + to.name + " within " +
                                      std::to_string(kTailLimit.count() / 1000) + " s"
                                : handed.error().cause;
  if (ran && !services_.units->running(qemu_unit(vm))) {
    take_back(vm);
    why += "; its guest was stopped for that, and is started again";
  }
  return not_done(std::move(why));
}

// False: the tail did not arrive.
Result<bool> Protections::give(const VmRow& row, const PeerRow& to) {
  const VmId vm = row.id;
  {
    Reconciler::Turn turn = services_.reconciler->turn_to_finish(vm, kTurnLimit);
    if (!turn.owns_lock()) {
      return Error{.code = ErrorCode::kTimeout, .cause = "the VM is being ended just now"};
    }
    // Nothing that was queued before this starts it again.
    TRY(services_.units->kill_guests(vm));
    TRY(finish_vm_in_turn(services_, row));
    // One that looked after it before has shown where it ended then.
    caretakers_.end(vm);
  }
  streams_.look(vm);
  const auto until = std::chrono::steady_clock::now() + kTailLimit;
  while (!caretakers_.level(vm)) {
    if (std::chrono::steady_clock::now() >= until || services_.ending) return false;
    std::this_thread::sleep_for(kLook);
  }
  // What it has by now, in its vault's words.
  TRY(services_.titles->exchange(vm, to.site, kAskLimit));
  TRY(services_.titles->sign(row, {.kind = title::Kind::kHandOver, .subject = to.site}));
  TRY(services_.catalog->set_wanted(vm, false));
  return true;
}

// It was not signed away: a VM that ran runs again.
void Protections::take_back(VmId vm) {
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
