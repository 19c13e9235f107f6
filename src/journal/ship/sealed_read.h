// What a peer is given of a journal: sealed records, and where it stands on the line.
#pragma once

#include "base/result.h"
#include "journal/format/format.h"

namespace hf::journal {

// Whole records, as they stand in the file. Valid until the callback returns.
struct SealedBatch {
  ByteSpan records;    // empty: nothing durable after the position asked for
  Position last;       // of the last record in it; the position asked for if empty
  Sequence durable;    // of the journal, now
  Micros oldest_time;  // record time of the first one; 0 if empty
};
class SealedRead {
 public:
  virtual void on_sealed(Result<SealedBatch> batch) = 0;

 protected:
  ~SealedRead() = default;
};

enum class LineMatch : uint8_t {
  kOnLine,      // the position is ours, with this chain value
  kAhead,       // of our last incarnation, but past our end: the peer has more than we do
  kForked,      // it is not on our lineage, or the chain value differs
  kMergedAway,  // on the lineage, but the records after it are merged: the tail can't serve it
};

}  // namespace hf::journal
