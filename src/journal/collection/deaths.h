// Deaths: which bytes of which record a later record hid, and which position saw it first. Sorted
// by (segment, place, skip), the site's own, rebuildable from the maps; collection reads its
// victims' part and never the disk's map.
//
// A unit lives if some retained position of the line lies in [written, hidden). Hidden bytes only
// grow along a line, so the first retained position at or after the writing decides.
#pragma once

#include "journal/table/cursor.h"
#include "journal/table/filter.h"
#include "journal/units/units.h"

namespace hf::journal {

struct Death {
  uint64_t segment = 0;
  uint64_t place = 0;
  uint64_t skip = 0;    // of the record's bytes, before the first hidden one
  uint64_t length = 0;  // hidden bytes
  Sequence by;          // at the latest: a record in between may have hidden them before
  bool operator==(const Death&) const = default;
  // A byte is hidden once, so (place, skip) is one death's.
  TableKey key() const { return {.major = segment, .minor = place / 64 << 21 | skip}; }
};

struct DeathCodec {
  using Entry = Death;
  static constexpr TableKind kKind = TableKind::kDeaths;
  static constexpr size_t kEncodedMax = 60;
  static TableKey key(const Death& death) { return death.key(); }
  static bool reaches(const Death& death, const TableKey& key) { return death.key() >= key; }
  static void encode(VarWriter& out, const Death* previous, const Death& death);
  static Result<Death> decode(VarReader& in, const Death* previous);
  static void touch(const Death&, FilterBuilder& filter) { filter.give_up(); }  // read in order
};

// Positions of one line that have to stay readable, in order; the line's end is always one.
using Retained = std::vector<Sequence>;

// Which units of a record live. `deaths` are those of this record, disjoint, in any order.
LiveUnits live_units(const UnitLayout& layout, Sequence written, std::span<const Death> deaths,
                     const Retained& retained);

}  // namespace hf::journal
