// RecoveryState: this site's part in a VM's life, and the rules by which it changes.
//
//   role        event                                     next          epoch
//   primary     peer's epoch higher                       superseded    the peer's
//   primary     peer primary under the same epoch         (conflict)    -
//   replica     peer's epoch higher                       replica       the peer's
//   replica     promote                                   primary       + 1
//   superseded  anything                                  superseded    the highest known
//
// Every promotion raises the epoch, so of two sites that both hold themselves primary one always
// learns from the other that it is not. A superseded site never starts the VM: what it wrote after
// the divergence stays as it is.
//
// Pure: the daemon stores the record durably *before* it acts on it, and calls these from one
// thread.
#pragma once

#include <cstddef>
#include <optional>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "replication/wire.h"

namespace hf::recovery {

using Role = replication::SiteRole;

// Planted by the simulator only; see journal/format/faults.h.
struct Faults {
  bool epoch_not_raised = false;  // a promotion keeps the epoch
};

struct RecoveryState {
  VmId vm;
  Epoch epoch;
  Role role = Role::kPrimary;
  IncarnationId incarnation;  // the last one this site ran or received; zeroes: none yet
  bool has_peer = false;      // protected: a start from cold needs the peer's word
  bool operator==(const RecoveryState&) const = default;
};

// 96 bytes, little-endian: magic "HFRC", version, role, flags, vm, epoch, incarnation, CRC-32C.
inline constexpr uint32_t kStateMagic = 0x43524648;
inline constexpr uint16_t kStateVersion = 1;
inline constexpr size_t kStateSize = 96;
struct StateLayout {
  uint8_t magic[4];
  uint8_t version[2];
  uint8_t role;
  uint8_t flags;  // bit 0: has_peer
  uint8_t vm[16];
  uint8_t epoch[8];
  uint8_t incarnation[32];
  uint8_t reserved[28];
  uint8_t crc32c[4];  // of the bytes before
};
static_assert(sizeof(StateLayout) == kStateSize);
static_assert(offsetof(StateLayout, crc32c) == 92);
Bytes encode_state(const RecoveryState& state);
Result<RecoveryState> decode_state(ByteSpan bytes);

RecoveryState new_primary(const VmId& vm);               // a VM created here: epoch 1, no peer
RecoveryState new_replica(const VmId& vm, Epoch epoch);  // told so by its source

// What the peer said when asked.
struct PeerAnswer {
  Epoch epoch;
  Role role = Role::kReplica;
  bool running = false;
};

// ---- Learning ----

enum class Learned : uint8_t {
  kNothing,     // the state stands
  kEpoch,       // a higher epoch; the role stands
  kSuperseded,  // this site is no longer the VM's home: stop it if it runs, never start it
};
struct LearnOutcome {
  RecoveryState state;  // store it before anything else
  Learned learned = Learned::kNothing;
};
LearnOutcome learn_peer_epoch(const RecoveryState& state, Epoch peer);
// With the peer's role: two primaries under one epoch are a named conflict (kConflict).
Result<LearnOutcome> learn_peer(const RecoveryState& state, const PeerAnswer& peer);

// ---- Unplanned failover ----

enum class SourceAnswer : uint8_t {
  kStopped,   // it said so
  kNoAnswer,  // it was not reached: nothing was asked of it
  kSilent,    // it was asked and did not say what it did: it may have stopped for good
  kRefused,   // it answers and does not stop
};
// Of what is not known. A source that answers is not off: no word makes up for its refusal.
enum class OperatorWord : uint8_t { kNone, kSourceIsOff };

// Before the source is asked to stop, so that a failover that cannot succeed leaves it alone.
// `held`: the end of what the replica has durably; sequence 0 is an empty one, which no VM ran from
// and none can. kConflict: not a replica, or an empty one.
Status may_promote(const RecoveryState& state, const journal::LineEnd& held);

// The state to store, then to open the replica's journal under. kConflict: as may_promote(), or the
// source answers and refuses, or may be alive and nobody vouches for its death.
Result<RecoveryState> promote(const RecoveryState& state, const journal::LineEnd& held,
                              SourceAnswer source, OperatorWord word, const Faults& faults = {});

// ---- Starting ----

enum class StartWord : uint8_t { kNone, kWithoutPeer };  // the operator's; audited by the caller

// Whether the VM may start from cold here. `peer` is empty if it did not answer; give what it said
// to learn_peer first. A keeper that died under a running guest is not a start: it comes back.
Status may_start(const RecoveryState& state, const std::optional<PeerAnswer>& peer, StartWord word);

}  // namespace hf::recovery
