// Line: where a journal's line of records stands, and which record may follow. The one rule set
// that recovery, the keeper's appends and a replica's receiver share.
#pragma once

#include "journal/format/faults.h"
#include "journal/format/lineage.h"
#include "journal/log/merkle.h"

namespace hf::journal {

// What the records of one segment add up to: what its close must say.
class SegmentSummary {
 public:
  void start(Sequence first);
  // `position` is the record's, in bytes from the segment's first record.
  void add(const RecordHeader& header, const Digest& header_digest, uint64_t position);
  CloseBody close_body(Epoch epoch, const LineEnd& end, const Digest& previous_close) const;

  uint64_t records() const { return tree_.size(); }
  Sequence first() const { return first_; }
  uint64_t table_entries() const { return table_.size() / kExtentEntrySize; }
  const Bytes& table() const { return table_; }

 private:
  MerkleTree tree_;
  Bytes table_;  // encoded entries
  Sequence first_;
};

class Line {
 public:
  Line() = default;
  Line(const VmId& vm, Lineage lineage, const LineEnd& end)
      : vm_(vm), lineage_(std::move(lineage)), end_(end) {}

  // Does this record follow the last one? kCorrupt says what differs; kConflict: its epoch went
  // back. Digests of payloads and closes are not looked at.
  Status check(const RecordHeader& header, ByteSpan payload, const Faults& faults) const;
  // Takes a record that check() passed.
  void advance(const RecordHeader& header, const Digest& header_digest, ByteSpan payload);
  // Jumps over a closed segment whose records are not read.
  void jump(const LineEnd& end, Micros time);

  const VmId& vm() const { return vm_; }
  const Lineage& lineage() const { return lineage_; }
  const LineEnd& end() const { return end_; }
  Sequence last() const { return end_.position.sequence; }
  Micros time() const { return time_; }
  // Of the incarnation that wrote the last record; 0 if there is none yet.
  Epoch open_epoch() const;
  // Of the last incarnation that is known of; 0 if there is none yet.
  Epoch epoch() const { return lineage_.empty() ? Epoch{} : lineage_.back().body.epoch; }

 private:
  Status check_incarnation(const RecordHeader& header, ByteSpan payload,
                           const Faults& faults) const;

  VmId vm_;
  Lineage lineage_;  // may reach past end_ while recovery walks towards what a MANIFEST lists
  LineEnd end_;
  Micros time_;
};

}  // namespace hf::journal
