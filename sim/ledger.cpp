#include "sim/ledger.h"

#include <algorithm>

#include "journal/format/format.h"

namespace hf::sim {

const Region& region(size_t index) {
  static const std::array<Region, kRegionCount> kRegions{{
      {.volume = VolumeId(1), .base = 0, .cells = 768},
      {.volume = VolumeId(2), .base = 1 << 20, .cells = 512},
      {.volume = journal::kGuestStateVolume,
       .base = journal::guest_item_offset(journal::kItemUefiVariables),
       .cells = 64},
      {.volume = journal::kGuestStateVolume,
       .base = journal::guest_item_offset(journal::kItemTpmState),
       .cells = 24},
  }};
  return kRegions.at(index);
}

void fill_cells(Stamp stamp, size_t region, uint32_t cell, MutableByteSpan to) {
  HF_ASSERT(to.size() % kCellSize == 0);
  if (stamp == 0) {
    std::ranges::fill(to, std::byte{0});
    return;
  }
  for (size_t at = 0; at < to.size(); at += 8) {
    const uint64_t place = (uint64_t{region} << 32 | cell) * kCellSize + at;
    store_le(to.data() + at, stamp * 0x9e3779b97f4a7c15u ^ place * 0xbf58476d1ce4e5b9u);
  }
}

Image::Image() {
  for (size_t i = 0; i < kRegionCount; i++) cells_.emplace_back(region(i).cells, Stamp{0});
}

void Image::apply(const Op& op, Stamp stamp) {
  HF_ASSERT(op.cell + op.cells <= cells_[op.region].size());
  const auto first = cells_[op.region].begin() + op.cell;
  std::fill(first, first + op.cells, op.kind == OpKind::kZero ? 0 : stamp);
}

void History::add(Sequence sequence, Stamp stamp) {
  HF_ASSERT(entries_.empty() || entries_.back().sequence < sequence);
  entries_.push_back({.sequence = sequence, .stamp = stamp});
}

size_t History::cut_after(Sequence last) {
  size_t cut = 0;
  while (!entries_.empty() && entries_.back().sequence > last) {
    entries_.pop_back();
    cut++;
  }
  return cut;
}

Image History::image(const Ledger& ledger) const {
  Image image;
  for (const Entry& entry : entries_) image.apply(ledger.op(entry.stamp), entry.stamp);
  return image;
}

}  // namespace hf::sim
