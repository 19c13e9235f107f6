// Which maps there are: the fixed schedule, the same at every site. M(a,b] is what the segments
// with ordinals a+1…b of a line left behind, as of b. One a segment; with T = 8, one for each
// aligned run of T, T², T³ …, made of its T parts.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/assert.h"

namespace hf::journal {

inline constexpr uint64_t kMapFanIn = 8;  // T

struct SegmentRun {  // (a, b]
  uint64_t a = 0;
  uint64_t b = 0;
  auto operator<=>(const SegmentRun&) const = default;
  uint64_t length() const { return b - a; }
};

// Of the runs that end at `b`, those that are due when it closes, the shortest first.
std::vector<SegmentRun> runs_due(uint64_t b);
// The T parts of an aligned run longer than one, the newest first.
std::vector<SegmentRun> parts_of(const SegmentRun& run);
// 0 for one segment, 1 for T … ; nullopt: not of the schedule (a root).
std::optional<unsigned> level_of(const SegmentRun& run);
// The fewest of `there` that make up (a, b], each beginning where the one before it ends, the
// newest first; nullopt if they don't.
std::optional<std::vector<SegmentRun>> cover(uint64_t a, uint64_t b,
                                             const std::set<SegmentRun>& there);

// A root (0, n] replaces the maps before n when they hold more than twice its entries.
constexpr bool root_is_due(uint64_t chain_entries, uint64_t root_entries) {
  return chain_entries > 2 * root_entries;
}

}  // namespace hf::journal
