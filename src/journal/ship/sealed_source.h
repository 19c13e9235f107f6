// SealedSource: what a journal gives a peer without opening anything: durable records as they stand
// in the segments, base files, and where a peer's position lies. Journal, ReplicaJournal and
// SealedJournal are such sources; whoever ships (the keeper's side of replication) needs no more.
//
// Threads, completions and failure: as Journal.
#pragma once

#include "journal/format/lineage.h"
#include "journal/ship/sealed_read.h"

namespace hf::journal {

class SealedSource {
 public:
  // Durable records after `after`. One at a time (asserted). At most max_bytes (at least
  // kRecordSizeMax), whole records, not past the end of a segment.
  //   kConflict: `after` is not on this lineage.  kNotFound: merged away.
  virtual void read_sealed(const Position& after, size_t max_bytes, SealedRead& done) = 0;
  // Compares with our chain. Blocks on the disk (a few headers are read): for reconnects, not the
  // data path.
  virtual Result<LineMatch> locate(const LineEnd& peer) = 0;
  // For a replica that lacks records that are merged away: where the segments begin and the base
  // files that hold what is before (seed.h, encode_seed). Blocks on the disk (footers are read).
  // kNotFound: nothing is merged here.
  virtual Result<Bytes> describe_seed() = 0;
  // `length` bytes (up to kSeedReadMax) of a base file of that description, as a batch's records.
  // One at a time (asserted). kNotFound: the file is merged away; describe again.
  virtual void read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) = 0;
  virtual LineEnd durable_end() const = 0;

 protected:
  ~SealedSource() = default;
};

}  // namespace hf::journal
