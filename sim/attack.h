// Attack: somebody between the sites, who has taken over what carries their frames. One of these,
// by the seed:
//
// - alters one record's payload and mends everything that needs no key: its digest, and the chain
//   of every record and every answer from there on. What tells is the batch's MAC and, were there
//   none, the next close, which is signed over the true headers.
// - swallows records and answers for the replica: an acknowledgement with the swallowed batch's own
//   MAC, or one that the replica sent in an earlier session, or such a session's beginning.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "replication/session.h"
#include "sim/world/network.h"
#include "sim/world/rng.h"

namespace hf::sim {

class Attack {
 public:
  // `unchecked`: no MAC and no close keeps altered records out (a planted fault): it alters some,
  // for the others need no close to be found.
  Attack(SimRng rng, bool unchecked);

  void begin() { armed_ = true; }
  void end();
  // Somebody noticed; in the end the attacker is thrown out.
  void noticed();
  // Records that it altered may be in the replica.
  bool altered() const { return unchecked_ && !chains_.empty(); }
  // That the replica's chain is a lie.
  bool is_lie(const journal::LineEnd& end) const;
  // A close over the altered records that was sent to the replica; taking it is what must not be.
  const std::optional<Sequence>& false_close() const { return false_close_; }

  // What goes on instead; empty: nothing.
  Bytes to_replica(Bytes frame);
  Bytes to_home(ConnectionId connection, Bytes frame);
  // What home is to hear besides, as if from the replica.
  std::optional<Bytes> forged() { return std::exchange(forged_, std::nullopt); }

 private:
  enum class Kind : uint8_t { kAlter, kReflect, kReplay };
  struct Chains {
    Digest truth;
    Digest lie;
  };
  struct Heard {  // a frame of the replica's that home could believe
    ConnectionId connection;
    uint64_t place = 0;  // among those of its session
    Bytes frame;
    Sequence durable;
  };
  Bytes alter_records(const replication::Frame& frame);
  bool alter_payload(journal::RecordHeader& header, MutableByteSpan record);
  Digest truth_for(const journal::LineEnd& end) const;
  Bytes mended_answer(const replication::Frame& frame, Bytes bytes) const;
  void swallow(const replication::Frame& frame);
  Bytes replayed(ConnectionId connection, const replication::Frame& frame, Bytes bytes);
  std::optional<Bytes> heard_before(Sequence least, Sequence most) const;

  SimRng rng_;
  const bool unchecked_;
  const Kind kind_;
  bool armed_ = false;
  uint64_t noticed_ = 0;
  std::map<Sequence, Chains> chains_;  // after each record from the altered one on
  std::optional<Sequence> false_close_;
  std::vector<Heard> heard_;
  ConnectionId listening_;  // the newest connection
  uint64_t place_ = 0;      // of the replica's next frame in it
  std::optional<Bytes> forged_;
};

}  // namespace hf::sim
