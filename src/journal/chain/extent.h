// Extent: what a map says of a run of a volume's bytes: which record put them there, or zeroed
// them.
#pragma once

#include <array>

#include "journal/table/coding.h"
#include "journal/table/filter.h"

namespace hf::journal {

inline constexpr size_t kBlockSize = 4096;  // of a volume; a unit of a record lies in one

// The first half of the leaf that the record has in its segment's Merkle tree: with the signed map
// it proves the header found at `place`, and by it the units.
using LeafPrefix = std::array<std::byte, 16>;

struct Extent {
  VolumeId volume;
  bool zero = false;  // reads as zeroes, by a record of that kind
  uint64_t offset = 0;
  uint64_t length = 0;
  Sequence sequence;
  uint64_t segment = 0;  // its ordinal in the line, from 1
  uint64_t place = 0;    // of the record: bytes from its segment's first
  uint64_t skip = 0;     // of the record's bytes, before this extent's first
  LeafPrefix leaf{};
  bool operator==(const Extent&) const = default;
  uint64_t end() const { return offset + length; }
  TableKey key() const { return {.major = volume.value, .minor = offset}; }
  // Its first `count` bytes less; some are left.
  void cut_front(uint64_t count) {
    HF_ASSERT(count < length);
    offset += count;
    length -= count;
    skip += count;
  }
  // Does it go on where `before` ends, with the same record's bytes?
  bool continues(const Extent& before) const {
    return volume == before.volume && offset == before.end() && sequence == before.sequence &&
           skip == before.skip + before.length;
  }
};

struct ExtentCodec {
  using Entry = Extent;
  static constexpr TableKind kKind = TableKind::kMap;
  static constexpr size_t kEncodedMax = 100;
  static TableKey key(const Extent& extent) { return extent.key(); }
  // Does it reach `key`, or begin after it?
  static bool reaches(const Extent& extent, const TableKey& key) {
    return TableKey{.major = extent.volume.value, .minor = extent.end()} > key;
  }
  static void encode(VarWriter& out, const Extent* previous, const Extent& extent);
  static Result<Extent> decode(VarReader& in, const Extent* previous);
  static void touch(const Extent& extent, FilterBuilder& filter);
};

// May a block with this filter hold anything of these bytes? `length` > 0.
bool may_touch(ByteSpan filter, VolumeId volume, uint64_t offset, uint64_t length);

}  // namespace hf::journal
