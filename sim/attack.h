// Attack: somebody between the sites (a daemon taken over, say) alters one record's payload and
// mends everything that needs no key: its digest, and the chain of every record and every answer
// from there on. Only a close, signed over the true headers, tells.
#pragma once

#include <map>
#include <optional>

#include "replication/wire.h"
#include "sim/world/rng.h"

namespace hf::sim {

class Attack {
 public:
  explicit Attack(SimRng rng) : rng_(std::move(rng)) {}

  void begin() { armed_ = true; }
  void end();
  bool altered() const { return !chains_.empty(); }
  // A close over the altered records that was sent to the replica; taking it is what must not be.
  const std::optional<Sequence>& false_close() const { return false_close_; }

  Bytes to_replica(Bytes frame);
  Bytes to_home(Bytes frame);

 private:
  struct Chains {
    Digest truth;
    Digest lie;
  };
  Bytes alter_records(const replication::Frame& frame);
  bool alter_payload(journal::RecordHeader& header, MutableByteSpan record);
  Digest truth_for(const journal::LineEnd& end) const;

  SimRng rng_;
  bool armed_ = false;
  std::map<Sequence, Chains> chains_;  // after each record from the altered one on
  std::optional<Sequence> false_close_;
};

}  // namespace hf::sim
