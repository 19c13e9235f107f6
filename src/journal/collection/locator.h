// Locator: where a record of a collected segment is now. A sorted table (segment, place) → (file,
// offset), merged in runs as maps are, the newest first. The site's own and unsigned: the header
// found there has to be the one that the map's leaf names, so a wrong locator shows.
#pragma once

#include "journal/table/cursor.h"
#include "journal/table/filter.h"

namespace hf::journal {

struct Location {
  uint64_t segment = 0;  // ordinal
  uint64_t place = 0;    // bytes from the segment's first record
  uint64_t file = 0;
  uint64_t offset = 0;  // of the survivor in it
  bool operator==(const Location&) const = default;
  TableKey key() const { return {.major = segment, .minor = place}; }
};

struct LocationCodec {
  using Entry = Location;
  static constexpr TableKind kKind = TableKind::kLocator;
  static constexpr size_t kEncodedMax = 48;
  static TableKey key(const Location& location) { return location.key(); }
  static bool reaches(const Location& location, const TableKey& key) {
    return location.key() >= key;
  }
  static void encode(VarWriter& out, const Location* previous, const Location& location);
  static Result<Location> decode(VarReader& in, const Location* previous);
  static void touch(const Location& location, FilterBuilder& filter) { filter.add(location.key()); }
};

}  // namespace hf::journal
