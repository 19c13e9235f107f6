// What an act does with the VM's processes.
#include <thread>

#include "control/core/log.h"
#include "control/lifecycle/act.h"
#include "control/lifecycle/launching.h"
#include "control/protection/protections.h"
#include "control/vm/reconciler.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;
using lifecycle::Act;
using lifecycle::Effect;

namespace {
constexpr auto kShowLimit = 2s;
constexpr auto kTurnLimit = 3s;
constexpr auto kLook = 5ms;

Error being_ended() {
  return {.code = ErrorCode::kTimeout, .cause = "the VM is being ended just now"};
}
}  // namespace

Status ActRunner::perform_process(const Step& step, Ended& ended) {
  Replicas& replicas = services_.protections->replicas();
  switch (step.effect) {
    case Effect::kFence:
      return services_.reconciler->fence(vm_);
    case Effect::kKillGuest:
      return kill_guest();
    case Effect::kEndKeeper:
      return end_keeper();
    case Effect::kShipTail:
      return ship_tail();
    case Effect::kStartReplica:
      if (machine_.wish().act == Act::kTakeOver) {
        TRY(replicas.held(row_, *protection_));
        return {};
      }
      return replicas.start(row_, *protection_);
    case Effect::kReopenReplica:
      return replicas.reopen(row_, *protection_);
    case Effect::kSealReplica:
      return seal();
    case Effect::kUnsealReplica:
      replicas.unseal(vm_);
      return {};
    case Effect::kShowLine:
      return show_line();
    case Effect::kFindLine:
      return find_line(ended);
    case Effect::kEndReplica:
      return replicas.stop(vm_);
    case Effect::kStartKeeper:
      return launching().keeper(row_);
    case Effect::kAdopt:
      return launching().adopt();
    case Effect::kStartGuest:
      TRY(launching().guest());
      outcome_.launched = launching().launched();
      return {};
    case Effect::kStartStream:
      services_.protections->turned(vm_, step.site);
      return {};
    case Effect::kEndStream:
      services_.protections->end_stream(vm_);
      return {};
    case Effect::kStartAgain:
      services_.protections->start_again(vm_);
      return {};
    default:
      return Error{.code = ErrorCode::kInternal, .cause = "an effect that nobody carries out"};
  }
}

Status ActRunner::kill_guest() {
  // Nothing that was queued before this starts it again.
  Reconciler::Turn turn = services_.reconciler->turn_to_finish(vm_, kTurnLimit);
  if (!turn.owns_lock()) return being_ended();
  return services_.units->kill_guests(vm_);
}

Status ActRunner::end_keeper() {
  const Act act = machine_.wish().act;
  if (act == Act::kFollow) {
    // Whoever has the turn now ends it all, or lets the last records leave first.
    Reconciler::Turn turn = services_.reconciler->turn_to_finish(vm_, 0ms);
    return turn.owns_lock() ? finish_vm_in_turn(services_, row_) : Status(being_ended());
  }
  if (act != Act::kHandOver) return finish_vm(services_, row_);
  Reconciler::Turn turn = services_.reconciler->turn_to_finish(vm_, kTurnLimit);
  if (!turn.owns_lock()) return being_ended();
  TRY(finish_vm_in_turn(services_, row_));
  // One that looked after it before has shown where it ended then.
  services_.protections->caretakers().end(vm_);
  return {};
}

Status ActRunner::ship_tail() {
  services_.protections->look(vm_);
  outcome_.tail_limit = context_.tail_limit;
  const auto until = std::chrono::steady_clock::now() + context_.tail_limit;
  while (!services_.protections->caretakers().level(vm_)) {
    if (std::chrono::steady_clock::now() >= until || services_.ending) {
      outcome_.tail_lacks = services_.protections->lacks(vm_);
      return Error{.code = ErrorCode::kTimeout, .cause = "not all of the VM arrived in time"};
    }
    std::this_thread::sleep_for(kLook);
  }
  return {};
}

Status ActRunner::seal() {
  outcome_.sealed = TRY(services_.protections->replicas().seal(vm_));
  return {};
}

Status ActRunner::show_line() {
  keeper_protocol::Client keeper(services_.paths.run_file(vm_, "control.sock"));
  TRY(keeper.ask(keeper_protocol::ShowLine{}, kShowLimit));
  return {};
}

Status ActRunner::find_line(Ended& ended) {
  const title::Line line = theirs_.value_or(title::Line{});
  keeper_protocol::Client keeper(services_.paths.run_file(vm_, "control.sock"));
  const keeper_protocol::Shown shown = TRY(keeper.ask(
      keeper_protocol::ShowLine{.holds =
                                    keeper_protocol::End{.incarnation = line.position.incarnation,
                                                         .sequence = line.position.sequence,
                                                         .chain = line.chain}},
      kShowLimit));
  ended.holds = shown.holds;
  return {};
}

}  // namespace hf::control
