// What this site answers to its peers: requests (JSON) and frames (replication/wire.h).
#include <algorithm>

#include "daemon/log.h"
#include "daemon/peer_message.h"
#include "daemon/peer_service.h"
#include "daemon/protections.h"
#include "daemon/recovery_rules.h"
#include "daemon/vm_operations.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr Millis kRequestLimit = 30s;

Result<replication::Frame> next_frame(TlsStream& tls, replication::FrameReader& reader,
                                      Millis limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    if (std::optional<replication::Frame> frame = TRY(reader.next())) return *frame;
    std::byte buffer[16384];
    auto left = std::chrono::duration_cast<Millis>(end - std::chrono::steady_clock::now());
    size_t got = TRY(tls.read_some(buffer, std::max<Millis>(left, 0ms)));
    if (got == 0)
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "the other site closed the connection"};
    reader.push(ByteSpan(buffer, got));
  }
}

Bytes refusal(VmId vm, replication::Refusal why, Epoch epoch, const Error& error) {
  return replication::encode(vm, replication::ErrorFrame{.refusal = why,
                                                         .epoch = epoch,
                                                         .cause = error.cause,
                                                         .effect = error.effect,
                                                         .mend = error.mend});
}

Error error_of(const replication::ErrorFrame& frame) {
  return {.code = frame.refusal == replication::Refusal::kWrongKey ? ErrorCode::kWrongKey
                                                                   : ErrorCode::kConflict,
          .cause = frame.cause,
          .effect = frame.effect,
          .mend = frame.mend};
}

}  // namespace

void PeerService::serve_requests(TlsStream& stream, const PeerRow& peer) {
  Result<sys::JsonObject> request = receive_message(stream, kRequestLimit);
  Result<sys::JsonObject> answer = request.ok() ? answer_request(*request, peer) : request;
  if (!answer.ok())
    log_warning("a request of site " + peer.name + " failed: " + answer.error().describe());
  static_cast<void>(
      send_message(stream, answer.ok() ? *answer : error_message(answer.error()), kRequestLimit));
}

Result<sys::JsonObject> PeerService::answer_request(const sys::JsonObject& request,
                                                    const PeerRow& peer) {
  std::string op = TRY(sys::get_string(request, "op"));
  if (op == "ping") return sys::JsonObject{{"site", identity_.name}};
  if (op == "offer") return services_.protections->take_offer(request, peer);
  if (op == "withdraw") {
    return services_.protections->withdraw(
        TRY(VmId::parse_hex(TRY(sys::get_string(request, "vm")))), peer);
  }
  return Error{.code = ErrorCode::kUnsupported,
               .cause = "the other site asks for \"" + op + "\", which this one does not know",
               .effect = "nothing was done",
               .mend = "upgrade Holdfast at both sites"};
}

void PeerService::serve_frames(TlsStream& stream, const PeerRow& peer) {
  replication::FrameReader reader;
  Result<replication::Frame> first = next_frame(stream, reader, kRequestLimit);
  if (!first.ok()) return;
  switch (first->type) {
    case replication::FrameType::kHello:
      return services_.protections->desk().serve(first->vm, peer, stream, reader, *first);
    case replication::FrameType::kEpochQuery:
      return static_cast<void>(stream.write_all(answer_epoch_query(*first, peer), kRequestLimit));
    case replication::FrameType::kStop:
      return static_cast<void>(stream.write_all(answer_stop(*first, peer), kRequestLimit));
    default:
      return static_cast<void>(stream.write_all(refusal(first->vm, replication::Refusal::kProtocol,
                                                        {}, {.cause = "this frame begins nothing"}),
                                                2s));
  }
}

Bytes PeerService::answer_epoch_query(const replication::Frame& frame, const PeerRow& peer) {
  Result<replication::EpochInfo> asked = replication::decode_epoch_info(frame.body);
  Result<VmRow> row = services_.catalog->vm(frame.vm);
  if (!asked.ok()) return refusal(frame.vm, replication::Refusal::kProtocol, {}, asked.error());
  if (!row.ok()) return refusal(frame.vm, replication::Refusal::kUnknownVm, {}, row.error());
  recovery::RecoveryState state = recovery_state(*row, true);
  // The question tells the asker's epoch: a source that comes back may be the one to learn. Only
  // from the site it is protected by or protects: no other's word ends a VM.
  bool may_teach = is_counterpart(services_.catalog->protection(frame.vm), peer.site);
  if (may_teach && asked->epoch > row->epoch) {
    recovery::LearnOutcome learned = recovery::learn_peer_epoch(state, asked->epoch);
    Status stored =
        store_recovery_state(services_, learned.state, "site " + peer.name + " has a higher epoch");
    if (!stored.ok())
      return refusal(frame.vm, replication::Refusal::kStorage, row->epoch, stored.error());
    if (learned.learned == recovery::Learned::kSuperseded)
      services_.protections->superseded(frame.vm);
    state = learned.state;
  }
  replication::EpochInfo info{.epoch = state.epoch,
                              .site = identity_.site,
                              .role = state.role,
                              .running = services_.units->running(keeper_unit(frame.vm)),
                              .durable = services_.protections->desk().view(frame.vm).durable};
  return replication::encode_epoch_reply(frame.vm, info);
}

// The peer is about to take the VM over: it stops here for good, with all it wrote shipped first if
// that works within seconds.
Bytes PeerService::answer_stop(const replication::Frame& frame, const PeerRow& peer) {
  Result<replication::Stop> stop = replication::decode_stop(frame.body);
  Result<VmRow> row = services_.catalog->vm(frame.vm);
  Result<ProtectionRow> protection = services_.catalog->protection(frame.vm);
  if (!stop.ok()) return refusal(frame.vm, replication::Refusal::kProtocol, {}, stop.error());
  if (!row.ok()) return refusal(frame.vm, replication::Refusal::kUnknownVm, {}, row.error());
  bool theirs =
      protection.ok() && protection->peer == peer.site && protection->direction == Direction::kOut;
  if (!theirs || stop->epoch <= row->epoch) {
    return refusal(
        frame.vm, replication::Refusal::kNotReplica, row->epoch,
        {.cause = "site " + peer.name + " is not the one to take this VM over under epoch " +
                  std::to_string(stop->epoch.value)});
  }
  log_warning("site " + peer.name + " takes VM " + row->name + " over under epoch " +
              std::to_string(stop->epoch.value));
  // First of all it must not start again, whatever happens next.
  recovery::LearnOutcome learned =
      recovery::learn_peer_epoch(recovery_state(*row, true), stop->epoch);
  Status stored =
      store_recovery_state(services_, learned.state, "site " + peer.name + " took the VM over");
  if (!stored.ok())
    return refusal(frame.vm, replication::Refusal::kStorage, row->epoch, stored.error());
  Status killed = services_.units->stop(qemu_unit(frame.vm), 9, 5s);
  if (!killed.ok())
    return refusal(frame.vm, replication::Refusal::kStorage, row->epoch, killed.error());
  static_cast<void>(services_.protections->drain(frame.vm, 3s));
  Status finished = finish_vm(services_, *row);
  if (!finished.ok())
    return refusal(frame.vm, replication::Refusal::kStorage, row->epoch, finished.error());
  static_cast<void>(services_.catalog->set_wanted(frame.vm, false));
  return replication::encode_stopped(frame.vm, {});
}

Result<recovery::PeerAnswer> PeerService::ask_epoch(VmId vm, const recovery::RecoveryState& state,
                                                    Millis limit) {
  ProtectionRow protection = TRY(services_.catalog->protection(vm));
  PeerRow peer = TRY(services_.catalog->peer(protection.peer));
  std::unique_ptr<TlsStream> stream = TRY(connect(peer, kAlpnFrames, limit));
  replication::EpochInfo info{.epoch = state.epoch,
                              .site = identity_.site,
                              .role = state.role,
                              .running = services_.units->running(keeper_unit(vm)),
                              .durable = {}};
  TRY(stream->write_all(replication::encode_epoch_query(vm, info), limit));
  replication::FrameReader reader;
  replication::Frame frame = TRY(next_frame(*stream, reader, limit));
  if (frame.type == replication::FrameType::kError)
    return error_of(TRY(replication::decode_error(frame.body)));
  if (frame.type != replication::FrameType::kEpochReply || frame.vm != vm) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "the peer answered something else than its epoch"};
  }
  replication::EpochInfo answer = TRY(replication::decode_epoch_info(frame.body));
  return recovery::PeerAnswer{
      .epoch = answer.epoch, .role = answer.role, .running = answer.running};
}

PeerService::StopAnswer PeerService::ask_stop(VmId vm, SiteId source, Epoch epoch, Millis reach,
                                              Millis limit) {
  StopAnswer answer;
  Result<PeerRow> peer = services_.catalog->peer(source);
  if (!peer.ok()) return answer;
  Result<std::unique_ptr<TlsStream>> stream = connect(*peer, kAlpnFrames, reach);
  if (!stream.ok()) {
    log_info("the source did not answer: " + stream.error().describe());
    return answer;
  }
  Status sent = (*stream)->write_all(
      replication::encode_stop(vm, {.epoch = epoch, .site = identity_.site}), reach);
  if (!sent.ok()) return answer;
  replication::FrameReader reader;
  Result<replication::Frame> frame = next_frame(**stream, reader, limit);
  if (!frame.ok()) {
    // It was there and did not say that it stopped.
    answer.answer = frame.error().code == ErrorCode::kTimeout ? recovery::SourceAnswer::kRunning
                                                              : recovery::SourceAnswer::kNoAnswer;
  } else if (frame->type == replication::FrameType::kStopped) {
    answer.answer = recovery::SourceAnswer::kStopped;
  } else {
    answer.answer = recovery::SourceAnswer::kRunning;
    Result<replication::ErrorFrame> said = replication::decode_error(frame->body);
    if (said.ok()) log_warning("the source did not stop: " + said->cause);
  }
  return answer;
}

}  // namespace hf::daemon
