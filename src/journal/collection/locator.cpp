#include "journal/collection/locator.h"

namespace hf::journal {

namespace {
constexpr uint64_t kUnit = 64;  // records and survivors begin at multiples of it
}

// Segment: how many after the one before, then place / 64 (less the one before's within a segment),
// file and offset / 64 as differences.
void LocationCodec::encode(VarWriter& out, const Location* previous, const Location& location) {
  HF_ASSERT(location.place % kUnit == 0 && location.offset % kUnit == 0);
  const Location zero;
  const Location& before = previous == nullptr ? zero : *previous;
  const bool same = previous != nullptr && before.segment == location.segment;
  out.number(location.segment - before.segment);
  out.number((location.place - (same ? before.place : 0)) / kUnit);
  out.difference(location.file, before.file);
  out.difference(location.offset / kUnit, before.offset / kUnit);
}

Result<Location> LocationCodec::decode(VarReader& in, const Location* previous) {
  const Location zero;
  const Location& before = previous == nullptr ? zero : *previous;
  Location location;
  const uint64_t segments = in.number();
  const uint64_t place = in.number();
  location.file = in.difference(before.file);
  location.offset = in.difference(before.offset / kUnit);
  const bool same = previous != nullptr && segments == 0;
  if (in.failed() || segments > kNumberMax || place > kNumberMax / kUnit ||
      location.file > kNumberMax || location.offset > kNumberMax / kUnit) {
    return corrupt("a locator: a number in it is above the limit");
  }
  location.segment = before.segment + segments;
  location.place = (same ? before.place : 0) + place * kUnit;
  location.offset *= kUnit;
  if (location.segment > kNumberMax || location.place > kNumberMax) {
    return corrupt("a locator: a number in it is above the limit");
  }
  return location;
}

}  // namespace hf::journal
