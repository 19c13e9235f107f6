// Units: the parts of a record's payload that live and die by themselves: the 4 KiB-aligned blocks
// of the volume that it covers (the first and the last may be shorter), each sealed with a tag.
//
//   payload = unit ‖ unit ‖ …        unit = ciphertext ‖ tag (16)
//
// The payload's digest is the root of a tree over its units (RFC 6962 shape; leaf = SHA-256(0 ‖
// unit), node = SHA-256(1 ‖ left ‖ right)), so that units can go and what stays can still be
// checked against the record's header: a survivor carries, instead of each largest subtree without
// a live unit, that subtree's root.
#pragma once

#include <vector>

#include "journal/format/format.h"

namespace hf::journal {

struct UnitRange {  // units [first, first + count)
  size_t first = 0;
  size_t count = 0;
  size_t stored_at = 0;  // in the payload
  size_t stored_size = 0;
};

struct UnitPart {
  uint64_t offset = 0;   // in the volume
  size_t length = 0;     // of plaintext
  size_t stored_at = 0;  // in the payload
  size_t stored_length() const { return length + crypto::kTagSize; }
};

// Where the units of a write of [offset, offset + length) lie. `length` is at least 1, at most 1
// MiB.
class UnitLayout {
 public:
  UnitLayout(uint64_t offset, uint64_t length);
  size_t count() const { return count_; }
  UnitPart unit(size_t index) const;
  size_t stored_size() const { return static_cast<size_t>(length_) + count_ * crypto::kTagSize; }
  // Those that have bytes of [skip, skip + length) of the record.
  UnitRange covering(uint64_t skip, uint64_t length) const;

 private:
  uint64_t offset_;
  uint64_t length_;
  size_t count_;
};

Digest unit_leaf(ByteSpan stored_unit);
// The root over all of a payload's units.
Digest payload_root(const UnitLayout& layout, ByteSpan payload);
// What a record's header says of its payload: that root, if it is a write; SHA-256 of the stored
// bytes else. `header` has been decoded, or its lengths are as decode_header() takes them.
Digest payload_digest(const RecordHeader& header, ByteSpan payload);

// Which units of a record are kept.
using LiveUnits = std::vector<bool>;

// hashes ‖ live units, as they stand in a survivor; at least one unit lives.
struct PrunedPayload {
  std::vector<Digest> hashes;  // of the largest subtrees without a live unit, from left to right
  Bytes units;                 // the live ones, in order, as stored
};
PrunedPayload prune(const UnitLayout& layout, ByteSpan payload, const LiveUnits& live);
// Fewer units of what was pruned before; `live` is a subset of `before`.
PrunedPayload prune_again(const UnitLayout& layout, const PrunedPayload& payload,
                          const LiveUnits& before, const LiveUnits& live);
// How many hashes stand for what is not live.
size_t pruned_hashes(const LiveUnits& live);
// kCorrupt unless its units and hashes give `root`.
Status check_pruned(const UnitLayout& layout, const LiveUnits& live, const PrunedPayload& payload,
                    const Digest& root);

}  // namespace hf::journal
