#include "recovery/state.h"

#include <algorithm>

#include "base/crc32c.h"
#include "journal/format/wire.h"

namespace hf::recovery {

namespace {

constexpr uint8_t kFlagHasPeer = 1;

std::string number(Epoch epoch) { return std::to_string(epoch.value); }

Error two_primaries(const RecoveryState& state) {
  return {.code = ErrorCode::kConflict,
          .cause = "both sites were promoted to epoch " + number(state.epoch),
          .effect = "neither site's VM starts until one is chosen; no data was changed",
          .mend = "choose the side that counts and disable protection at the other"};
}

}  // namespace

Bytes encode_state(const RecoveryState& state) {
  Bytes bytes(kStateSize);
  FieldWriter writer(bytes);
  writer.number(kStateMagic);
  writer.number(kStateVersion);
  writer.number(static_cast<uint8_t>(state.role));
  writer.number(state.has_peer ? kFlagHasPeer : uint8_t{0});
  writer.bytes(state.vm.span());
  writer.number(state.epoch.value);
  writer.bytes(state.incarnation.span());
  writer.zeroes_to(kStateSize - 4);
  writer.number(crc32c(ByteSpan(bytes).first(kStateSize - 4)));
  return bytes;
}

Result<RecoveryState> decode_state(ByteSpan bytes) {
  if (bytes.size() != kStateSize) return journal::corrupt("recovery state of the wrong size");
  if (load_le<uint32_t>(bytes.data() + kStateSize - 4) != crc32c(bytes.first(kStateSize - 4))) {
    return journal::corrupt("recovery state with a wrong checksum");
  }
  FieldReader reader(bytes);
  if (reader.number<uint32_t>() != kStateMagic) return journal::corrupt("not a recovery state");
  if (reader.number<uint16_t>() != kStateVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "recovery state of another version"};
  }
  RecoveryState state;
  const auto role = reader.number<uint8_t>();
  if (role < static_cast<uint8_t>(Role::kPrimary) ||
      role > static_cast<uint8_t>(Role::kSuperseded)) {
    return journal::corrupt("recovery state with an unknown role");
  }
  state.role = static_cast<Role>(role);
  const auto flags = reader.number<uint8_t>();
  if ((flags & ~kFlagHasPeer) != 0) return journal::corrupt("recovery state with unknown flags");
  state.has_peer = (flags & kFlagHasPeer) != 0;
  state.vm = reader.id<VmId>();
  state.epoch = reader.counted<Epoch>();
  state.incarnation = reader.id<IncarnationId>();
  if (!reader.zeroes_to(kStateSize - 4))
    return journal::corrupt("recovery state with reserved bytes");
  if (!reader.in_range()) return journal::corrupt("recovery state: epoch above the limit");
  if (state.epoch.value == 0) return journal::corrupt("recovery state with epoch 0");
  return state;
}

RecoveryState new_primary(const VmId& vm) {
  return {.vm = vm, .epoch = Epoch(1), .role = Role::kPrimary, .incarnation = {}};
}

RecoveryState new_replica(const VmId& vm, Epoch epoch) {
  HF_ASSERT(epoch.value > 0);
  return {.vm = vm, .epoch = epoch, .role = Role::kReplica, .incarnation = {}, .has_peer = true};
}

LearnOutcome learn_peer_epoch(const RecoveryState& state, Epoch peer) {
  if (peer <= state.epoch) return {.state = state};
  LearnOutcome outcome{.state = state, .learned = Learned::kEpoch};
  outcome.state.epoch = peer;
  if (state.role == Role::kPrimary) {
    outcome.state.role = Role::kSuperseded;
    outcome.learned = Learned::kSuperseded;
  }
  return outcome;
}

Result<LearnOutcome> learn_peer(const RecoveryState& state, const PeerAnswer& peer) {
  if (peer.epoch == state.epoch && peer.role == Role::kPrimary && state.role == Role::kPrimary) {
    return two_primaries(state);
  }
  return learn_peer_epoch(state, peer.epoch);
}

Status may_promote(const RecoveryState& state, const journal::LineEnd& held) {
  if (state.role != Role::kReplica) {
    const bool primary = state.role == Role::kPrimary;
    return Error{.code = ErrorCode::kConflict,
                 .cause = primary ? "this site is the VM's home already"
                                  : "this site was superseded under epoch " + number(state.epoch),
                 .effect = "there is nothing to fail over to here",
                 .mend = primary ? "start the VM with `holdfast vm start`"
                                 : "run the command at the other site"};
  }
  if (held.position.sequence.value > 0) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "this site's replica of the VM is empty: nothing of it has arrived yet",
               .effect = "the VM was not taken over, and its source was not asked to stop",
               .mend =
                   "start the VM at its source and wait until `holdfast protection show` there "
                   "says streaming; then fail over"};
}

namespace {

// Why a source that may be alive keeps the VM.
Error source_may_run(SourceAnswer source) {
  Error error{.code = ErrorCode::kConflict};
  switch (source) {
    case SourceAnswer::kSilent:
      error.cause = "the source site was asked to stop the VM and did not say that it did";
      error.effect =
          "nothing was changed here; the source may have stopped the VM, and then does not start "
          "it again";
      error.mend =
          "repeat the command: a source that has stopped says so; if it is off, with "
          "--source-is-off";
      break;
    case SourceAnswer::kRefused:
      error.cause = "the source site answers and did not stop the VM";
      error.effect = "the VM may still run there; nothing was changed here";
      error.mend =
          "see to what it says there, then repeat the command; or stop that site, then repeat it "
          "with --source-is-off";
      break;
    case SourceAnswer::kNoAnswer:
    case SourceAnswer::kStopped:
      error.cause = "the source site does not answer";
      error.effect = "the VM might still run there; nothing was changed";
      error.mend =
          "make sure that it does not run the VM and stays off, then repeat with --source-is-off";
      break;
  }
  return error;
}

}  // namespace

Result<RecoveryState> promote(const RecoveryState& state, const journal::LineEnd& held,
                              SourceAnswer source, OperatorWord word, const Faults& faults) {
  TRY(may_promote(state, held));
  const bool vouched = word == OperatorWord::kSourceIsOff && source != SourceAnswer::kRefused;
  if (source != SourceAnswer::kStopped && !vouched) return source_may_run(source);
  if (state.epoch.value >= kNumberMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "the VM's epoch, " + number(state.epoch) + ", is the highest there is",
                 .effect = "the VM is not taken over; its replica stays as it is",
                 .mend =
                     "no promotion leads there: its source made the number up; run the VM at "
                     "the site that it came from, or protect it anew there"};
  }
  RecoveryState next = state;
  next.role = Role::kPrimary;
  if (!faults.epoch_not_raised) next.epoch = state.epoch.next();
  HF_ASSERT(faults.epoch_not_raised || next.epoch > state.epoch);
  return next;
}

Status may_start(const RecoveryState& state, const std::optional<PeerAnswer>& peer,
                 StartWord word) {
  if (state.role == Role::kReplica) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "this site holds the VM's replica",
                 .effect = "the VM does not start here",
                 .mend = "take it over with `holdfast failover unplanned`"};
  }
  if (state.role == Role::kSuperseded || (peer && peer->epoch > state.epoch)) {
    const Epoch epoch = peer ? std::max(peer->epoch, state.epoch) : state.epoch;
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the VM was taken over at the other site under epoch " + number(epoch),
                 .effect = "it does not start here; what this site wrote is kept as it is",
                 .mend = "use the VM at the other site"};
  }
  if (!state.has_peer) return {};
  if (!peer) {
    if (word == StartWord::kWithoutPeer) return {};
    return Error{
        .code = ErrorCode::kUnavailable,
        .cause = "the peer site does not answer, so nobody confirms epoch " + number(state.epoch),
        .effect = "the VM does not start: it might have been taken over there",
        .mend = "bring the link back, or start with --without-peer if it was not"};
  }
  if (peer->role == Role::kPrimary && peer->epoch == state.epoch) return two_primaries(state);
  return {};
}

}  // namespace hf::recovery
