#include "journal/collection/deaths.h"

#include <algorithm>

namespace hf::journal {

namespace {
constexpr uint64_t kUnit = 64;
constexpr uint64_t kSkipMax = uint64_t{1} << 21;
constexpr uint64_t kPlaceMax = uint64_t{1} << 40;
}  // namespace

void DeathCodec::encode(VarWriter& out, const Death* previous, const Death& death) {
  HF_ASSERT(death.length > 0 && death.skip < kSkipMax && death.place % kUnit == 0);
  const Death zero;
  const Death& before = previous == nullptr ? zero : *previous;
  const bool same = previous != nullptr && before.segment == death.segment;
  out.number(death.segment - before.segment);
  out.number((death.place - (same ? before.place : 0)) / kUnit);
  out.number(death.skip);
  out.number(death.length);
  out.difference(death.by.value, before.by.value);
}

Result<Death> DeathCodec::decode(VarReader& in, const Death* previous) {
  const Death zero;
  const Death& before = previous == nullptr ? zero : *previous;
  Death death;
  const uint64_t segments = in.number();
  const uint64_t place = in.number();
  death.skip = in.number();
  death.length = in.number();
  death.by = Sequence(in.difference(before.by.value));
  const bool same = previous != nullptr && segments == 0;
  if (in.failed() || segments > kNumberMax || place > kPlaceMax / kUnit || death.skip >= kSkipMax ||
      death.length == 0 || death.length > kNumberMax || death.by.value > kNumberMax) {
    return corrupt("a death list: a number in it is above the limit");
  }
  death.segment = before.segment + segments;
  death.place = (same ? before.place : 0) + place * kUnit;
  if (death.segment > kNumberMax || death.place > kPlaceMax) {
    return corrupt("a death list: a number in it is above the limit");
  }
  return death;
}

LiveUnits live_units(const UnitLayout& layout, Sequence written, std::span<const Death> deaths,
                     const Retained& retained) {
  HF_ASSERT(std::ranges::is_sorted(retained));
  const auto first = std::ranges::lower_bound(retained, written);
  if (first == retained.end()) return LiveUnits(layout.count(), false);
  std::vector<uint64_t> hidden(layout.count());
  for (const Death& death : deaths) {
    if (death.by > *first) continue;
    const UnitRange range = layout.covering(death.skip, death.length);
    const uint64_t from = layout.unit(0).offset + death.skip;
    for (size_t i = range.first; i < range.first + range.count; ++i) {
      const UnitPart unit = layout.unit(i);
      hidden[i] += std::min(unit.offset + unit.length, from + death.length) -
                   std::max<uint64_t>(unit.offset, from);
    }
  }
  LiveUnits live(layout.count());
  for (size_t i = 0; i < live.size(); ++i) live[i] = hidden[i] < layout.unit(i).length;
  return live;
}

}  // namespace hf::journal
