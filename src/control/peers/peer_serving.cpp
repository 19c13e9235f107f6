// What this site answers to the daemons of its peers.
#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// Of a stop, together well below what the asker waits.
constexpr Millis kTurnLimit = 3s;
constexpr Millis kDrainLimit = 3s;

// The same words whether it is another site's VM or none: a peer learns nothing of others' VMs.
Error unknown_to(const PeerRow& peer) {
  return {.code = ErrorCode::kNotFound,
          .cause = "this site and site " + peer.name + " do not protect this VM together",
          .effect = "nothing was done",
          .mend = "holdfast protection show at both sites"};
}

}  // namespace

Result<Bytes> PeerService::answer(SiteId site, ByteSpan request) {
  PeerRow peer = TRY(services_.catalog->peer(site));
  auto reply = [&]() -> Result<sys::JsonObject> {
    sys::JsonObject json =
        TRY(sys::parse_json_object(as_text(request), {.bytes_max = peer::kRequestMax,
                                                      .duplicates = sys::JsonDuplicates::kRefuse}));
    return answer_question(TRY(sys::decode_operation<PeerQuestion>(json)), peer);
  }();
  if (!reply.ok()) {
    log_peer(PeerLog::kRequest, site,
             "a request of site " + peer.name + " failed: " + reply.error().describe());
    return std::move(reply).error();
  }
  std::string text = sys::to_text(*reply);
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

Result<sys::JsonObject> PeerService::answer_question(const PeerQuestion& question,
                                                     const PeerRow& peer) {
  if (const auto* offer = std::get_if<Offer>(&question))
    return sys::encode_json(TRY(services_.protections->take_offer(*offer, peer)));
  if (const auto* withdrawal = std::get_if<Withdrawal>(&question))
    return sys::encode_json(TRY(services_.protections->withdraw(withdrawal->vm, peer)));
  if (const auto* order = std::get_if<StopOrder>(&question))
    return sys::encode_json(TRY(answer_stop(*order, peer)));
  return sys::encode_json(TRY(answer_epoch(std::get<EpochQuestion>(question), peer)));
}

Result<EpochAnswer> PeerService::answer_epoch(const EpochQuestion& question, const PeerRow& peer) {
  Result<VmRow> row = services_.catalog->vm(question.vm);
  if (!row.ok()) return unknown_to(peer);
  Result<ProtectionRow> protection = services_.catalog->protection(question.vm);
  if (!may_ask(*row, protection, peer.site)) return unknown_to(peer);
  recovery::RecoveryState state = recovery_state(*row, true);
  // The question tells the asker's epoch: a source that comes back may be the one to learn. Only
  // from the site it is protected by or protects: no other's word ends a VM.
  if (is_counterpart(protection, peer.site)) {
    state = TRY(learn_epoch(services_, question.vm, question.epoch,
                            "site " + peer.name + " has a higher epoch"))
                .state;
  }
  return EpochAnswer{.epoch = state.epoch,
                     .role = state.role,
                     .running = services_.units->running(keeper_unit(question.vm))};
}

// The peer is about to take the VM over: its guest stops here for good, with all it wrote shipped
// first if that works within seconds. Asked again, because the answer was lost, the answer is the
// same; whatever job works on the VM is not waited for.
Result<StopOutcome> PeerService::answer_stop(const StopOrder& order, const PeerRow& peer) {
  Result<VmRow> row = services_.catalog->vm(order.vm);
  if (!row.ok() && row.error().code != ErrorCode::kNotFound) return std::move(row).error();
  if (!row.ok()) {
    // One that was deleted here, say, does not run here.
    if (!services_.units->running(qemu_unit(order.vm))) return StopOutcome{.stopped = true};
    return StopOutcome{.why = "a guest of a VM that this site does not know runs"};
  }
  Result<ProtectionRow> protection = services_.catalog->protection(order.vm);
  if (!is_counterpart(protection, peer.site) || protection->direction != Direction::kOut)
    return unknown_to(peer);
  const bool again = row->role == VmRole::kSuperseded && order.epoch == row->epoch;
  if (order.epoch <= row->epoch && !again) {
    return StopOutcome{.why = "the VM is here under epoch " + std::to_string(row->epoch.value) +
                              " already, not below " + std::to_string(order.epoch.value),
                       .epoch = row->epoch};
  }
  log_peer(PeerLog::kOrder, peer.site,
           "site " + peer.name + " takes VM " + row->name + " over under epoch " +
               std::to_string(order.epoch.value));
  Result<bool> shipped = stop_for_good(*row, order.epoch, peer);
  if (!shipped.ok()) return StopOutcome{.why = shipped.error().cause};
  return StopOutcome{.stopped = true, .shipped = *shipped};
}

// Whether all that was durable has been shipped.
Result<bool> PeerService::stop_for_good(const VmRow& row, Epoch epoch, const PeerRow& peer) {
  bool shipped = false;
  {
    // Held over the last records: the reconciler ends the keeper afterwards. Whoever has the turn
    // for longer is ending the keeper already.
    Reconciler::Turn turn = services_.reconciler->turn_to_finish(row.id, kTurnLimit);
    // First of all it must not start again, whatever happens next.
    TRY(learn_epoch(services_, row.id, epoch, "site " + peer.name + " took the VM over"));
    TRY(services_.reconciler->fence(row.id));
    shipped = services_.protections->drain(row.id, kDrainLimit);
    services_.protections->caretakers().end(row.id);
  }
  services_.reconciler->wake();
  TRY(services_.catalog->set_wanted(row.id, false));
  return shipped;
}

}  // namespace hf::control
