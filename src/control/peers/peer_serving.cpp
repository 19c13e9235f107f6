// What this site answers to the daemons of its peers.
#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// The same words whether it is another site's VM or none: a peer learns nothing of others' VMs.
Error unknown_to(const PeerRow& peer) {
  return {.code = ErrorCode::kNotFound,
          .cause = "this site and site " + peer.name + " do not protect this VM together",
          .effect = "nothing was done",
          .mend = "holdfast protection show at both sites"};
}

// Who reads it is at another site.
Error at_site(const std::string& here, Error error) {
  const bool says = error.mend.contains("at site ") || error.mend.contains("at both sites");
  if (!error.mend.empty() && !says) error.mend = "at site " + here + ": " + error.mend;
  return error;
}

}  // namespace

// The VM, if the peer is the other end of its protection, or the VM was taken over from there.
Result<VmRow> PeerService::shared_with(VmId vm, const PeerRow& peer) {
  Result<VmRow> row = services_.catalog->vm(vm);
  if (!row.ok() && row.error().code != ErrorCode::kNotFound) return row;
  if (!row.ok() || !may_ask(*row, services_.catalog->protection(vm), peer.site))
    return unknown_to(peer);
  return row;
}

Result<Bytes> PeerService::answer(SiteId site, ByteSpan request) {
  PeerRow peer = TRY(services_.catalog->peer(site));
  auto reply = [&]() -> Result<sys::JsonObject> {
    sys::JsonObject json =
        TRY(sys::parse_json_object(as_text(request), {.bytes_max = peer::kRequestMax,
                                                      .duplicates = sys::JsonDuplicates::kRefuse}));
    return answer_question(TRY(sys::decode_operation<PeerQuestion>(json)), peer);
  }();
  if (!reply.ok()) {
    services_.peer_log.line(
        PeerDoes::kRequest, site,
        "a request of site " + peer.name + " failed: " + reply.error().describe());
    services_.limited_events->tell(Often::kPeer, site,
                                   {.severity = Severity::kWarning,
                                    .kind = "peer.request-refused",
                                    .subject = kTheSite,
                                    .text = "refused: " + reply.error().describe(),
                                    .by = by_of(peer)});
    return at_site(services_.site.name, std::move(reply).error());
  }
  std::string text = sys::to_text(*reply);
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

Result<sys::JsonObject> PeerService::answer_question(const PeerQuestion& question,
                                                     const PeerRow& peer) {
  if (const auto* offer = std::get_if<Offer>(&question))
    return sys::encode_json(TRY(services_.protections->take_offer(*offer, peer)));
  if (const auto* withdrawal = std::get_if<Withdrawal>(&question))
    return sys::encode_json(TRY(services_.protections->withdraw(*withdrawal, peer)));
  if (const auto* title = std::get_if<TitleQuestion>(&question))
    return sys::encode_json(TRY(services_.titles->serve(*title, peer)));
  if (const auto* order = std::get_if<HandOverOrder>(&question))
    return sys::encode_json(TRY(services_.protections->hand_over(
        order->vm, peer, std::chrono::milliseconds(order->tail_ms))));
  if (const auto* order = std::get_if<SettleOrder>(&question))
    return sys::encode_json(TRY(services_.protections->settlements().give_up(order->vm, peer)));
  return sys::encode_json(TRY(answer_epoch(std::get<EpochQuestion>(question), peer)));
}

Result<EpochAnswer> PeerService::answer_epoch(const EpochQuestion& question, const PeerRow& peer) {
  const VmRow row = TRY(shared_with(question.vm, peer));
  Result<ProtectionRow> protection = services_.catalog->protection(question.vm);
  const recovery::RecoveryState state = recovery_state(row, true);
  return EpochAnswer{.epoch = state.epoch,
                     .role = state.role,
                     .running = services_.units->running(keeper_unit(question.vm))};
}

}  // namespace hf::control
