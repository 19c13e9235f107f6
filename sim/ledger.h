// The oracle's memory: every operation the guest asked for, the order the journal gave them, and
// what a prefix of that order must look like when read back.
//
// Volumes are divided into cells of 64 bytes. An operation stamps each cell it covers with its own
// number; a cell's bytes follow from (stamp, region, cell), so a cell that is old, torn, shifted or
// another's is told apart from the right one.
#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/ids.h"

namespace hf::sim {

inline constexpr size_t kCellSize = 64;

struct Region {
  VolumeId volume;
  uint64_t base = 0;  // bytes, in the volume
  uint32_t cells = 0;
};
// Two disks, the UEFI variable store and the vTPM's state blob.
inline constexpr size_t kRegionDisk1 = 0;
inline constexpr size_t kRegionDisk2 = 1;
inline constexpr size_t kRegionUefi = 2;
inline constexpr size_t kRegionTpm = 3;
inline constexpr size_t kRegionCount = 4;
const Region& region(size_t index);

using Stamp = uint64_t;  // 0: never written, or zeroed

enum class OpKind : uint8_t { kWrite, kZero };
struct Op {
  OpKind kind = OpKind::kWrite;
  size_t region = 0;
  uint32_t cell = 0;
  uint32_t cells = 0;
  uint64_t counter = 0;  // of the probe loop; 0: not one of its steps
};

class Ledger {
 public:
  Stamp add(const Op& op) {
    ops_.push_back(op);
    return ops_.size();
  }
  const Op& op(Stamp stamp) const { return ops_.at(stamp - 1); }
  Stamp last() const { return ops_.size(); }
  uint64_t counter(Stamp stamp) const { return stamp == 0 ? 0 : op(stamp).counter; }

 private:
  std::vector<Op> ops_;
};

void fill_cells(Stamp stamp, size_t region, uint32_t cell, MutableByteSpan to);  // whole cells

// What stands in every cell.
class Image {
 public:
  Image();
  void apply(const Op& op, Stamp stamp);
  Stamp at(size_t region, uint32_t cell) const { return cells_[region][cell]; }

 private:
  std::vector<std::vector<Stamp>> cells_;
};

// The operations of one line of records, by their sequence numbers.
class History {
 public:
  void add(Sequence sequence, Stamp stamp);
  // What a crash lost: everything after `last`. Returns how many.
  size_t cut_after(Sequence last);
  Image image(const Ledger& ledger) const;

 private:
  struct Entry {
    Sequence sequence;
    Stamp stamp;
  };
  std::vector<Entry> entries_;
};

}  // namespace hf::sim
