#include "journal/chain/extent.h"

#include <algorithm>

namespace hf::journal {

namespace {
constexpr uint8_t kZero = 1;
constexpr uint8_t kSectors = 2;     // gap, length and skip count 512 bytes
constexpr uint8_t kSameRecord = 4;  // as the entry before: no sequence, segment, place and leaf
constexpr uint8_t kVolume = 8;      // the volume follows, and the gap is from its start
constexpr uint8_t kSkip = 16;       // skip follows; without it, it is 0
constexpr uint8_t kFlagsKnown = 31;
constexpr uint64_t kSector = 512;
constexpr uint64_t kPlaceUnit = 64;

// Long extents are entered by coarser granules, which have keys of their own.
constexpr uint64_t kGranule = 64u << 10;
constexpr uint64_t kFineMax = 128u << 10;  // bytes up to which an extent is entered by blocks
constexpr uint64_t kCoarseMax = 8u << 20;  // above, its block has no filter

TableKey block_key(VolumeId volume, uint64_t offset) {
  return {.major = volume.value, .minor = offset / kBlockSize * 2};
}
TableKey granule_key(VolumeId volume, uint64_t offset) {
  return {.major = volume.value, .minor = offset / kGranule * 2 + 1};
}
bool same_record(const Extent& a, const Extent& b) {
  return a.sequence == b.sequence && a.segment == b.segment && a.place == b.place &&
         a.leaf == b.leaf && a.zero == b.zero;
}
}  // namespace

void ExtentCodec::encode(VarWriter& out, const Extent* previous, const Extent& extent) {
  HF_ASSERT(extent.length > 0 && extent.place % kPlaceUnit == 0);
  const bool other_volume = previous == nullptr || previous->volume != extent.volume;
  HF_ASSERT(other_volume || previous->end() <= extent.offset);
  const uint64_t gap = extent.offset - (other_volume ? 0 : previous->end());
  const bool sectors = (gap | extent.length | extent.skip) % kSector == 0;
  const bool same = previous != nullptr && same_record(*previous, extent);
  const uint64_t unit = sectors ? kSector : 1;
  out.byte(static_cast<uint8_t>((extent.zero ? kZero : 0) | (sectors ? kSectors : 0) |
                                (same ? kSameRecord : 0) | (other_volume ? kVolume : 0) |
                                (extent.skip > 0 ? kSkip : 0)));
  if (other_volume) out.number(extent.volume.value);
  out.number(gap / unit);
  out.number(extent.length / unit);
  if (extent.skip > 0) out.number(extent.skip / unit);
  if (same) return;
  out.difference(extent.sequence.value, previous == nullptr ? 0 : previous->sequence.value);
  out.difference(extent.segment, previous == nullptr ? 0 : previous->segment);
  out.number(extent.place / kPlaceUnit);
  out.bytes(extent.leaf);
}

Result<Extent> ExtentCodec::decode(VarReader& in, const Extent* previous) {
  const uint8_t flags = in.byte();
  const bool other_volume = (flags & kVolume) != 0;
  if ((flags & ~kFlagsKnown) != 0 || (previous == nullptr && !other_volume) ||
      (previous == nullptr && (flags & kSameRecord) != 0)) {
    return corrupt("a map: an entry's flags are not ones");
  }
  Extent extent;
  extent.zero = (flags & kZero) != 0;
  const uint64_t volume = other_volume ? in.number() : previous->volume.value;
  const uint64_t unit = (flags & kSectors) != 0 ? kSector : 1;
  const uint64_t gap = in.number();
  const uint64_t length = in.number();
  const uint64_t skip = (flags & kSkip) != 0 ? in.number() : 0;
  uint64_t place = 0;
  if ((flags & kSameRecord) != 0) {
    extent.sequence = previous->sequence;
    extent.segment = previous->segment;
    extent.leaf = previous->leaf;
    place = previous->place / kPlaceUnit;
  } else {
    extent.sequence = Sequence(in.difference(previous == nullptr ? 0 : previous->sequence.value));
    extent.segment = in.difference(previous == nullptr ? 0 : previous->segment);
    place = in.number();
    const ByteSpan leaf = in.bytes(extent.leaf.size());
    std::ranges::copy(leaf, extent.leaf.begin());
  }
  const uint64_t limit = kNumberMax / unit;
  if (in.failed() || volume > UINT32_MAX || gap > limit || length > limit || length == 0 ||
      skip > limit || extent.sequence.value > kNumberMax || extent.segment > kNumberMax ||
      place > kNumberMax / kPlaceUnit) {
    return corrupt("a map: a number in it is above the limit");
  }
  extent.volume = VolumeId(static_cast<uint32_t>(volume));
  extent.offset = (other_volume ? 0 : previous->end()) + gap * unit;
  extent.length = length * unit;
  extent.skip = skip * unit;
  extent.place = place * kPlaceUnit;
  if (extent.offset > kNumberMax || extent.end() > kNumberMax) {
    return corrupt("a map: an extent ends beyond any volume");
  }
  return extent;
}

void ExtentCodec::touch(const Extent& extent, FilterBuilder& filter) {
  if (extent.length > kCoarseMax) return filter.give_up();
  const bool fine = extent.length <= kFineMax;
  const uint64_t step = fine ? kBlockSize : kGranule;
  for (uint64_t at = extent.offset / step * step; at < extent.end(); at += step) {
    filter.add(fine ? block_key(extent.volume, at) : granule_key(extent.volume, at));
  }
}

bool may_touch(ByteSpan filter, VolumeId volume, uint64_t offset, uint64_t length) {
  HF_ASSERT(length > 0);
  if (filter.empty() || length > kCoarseMax) return true;
  const uint64_t end = offset + length;
  for (uint64_t at = offset / kGranule * kGranule; at < end; at += kGranule) {
    if (may_hold(filter, granule_key(volume, at))) return true;
  }
  for (uint64_t at = offset / kBlockSize * kBlockSize; at < end; at += kBlockSize) {
    if (may_hold(filter, block_key(volume, at))) return true;
  }
  return false;
}

}  // namespace hf::journal
