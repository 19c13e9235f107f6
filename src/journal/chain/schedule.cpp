#include "journal/chain/schedule.h"

#include <algorithm>
#include <map>

namespace hf::journal {

std::vector<SegmentRun> runs_due(uint64_t b) {
  HF_ASSERT(b > 0);
  std::vector<SegmentRun> due;
  for (uint64_t length = 1; length <= b && b % length == 0; length *= kMapFanIn) {
    due.push_back({.a = b - length, .b = b});
    if (length > b / kMapFanIn) break;
  }
  return due;
}

std::optional<unsigned> level_of(const SegmentRun& run) {
  if (run.a >= run.b) return std::nullopt;
  unsigned level = 0;
  for (uint64_t length = 1;; length *= kMapFanIn, ++level) {
    if (length == run.length()) {
      return run.b % length == 0 ? std::optional(level) : std::nullopt;
    }
    if (length > run.length() / kMapFanIn) return std::nullopt;
  }
}

std::vector<SegmentRun> parts_of(const SegmentRun& run) {
  const std::optional<unsigned> level = level_of(run);
  HF_ASSERT(level && *level > 0);
  const uint64_t length = run.length() / kMapFanIn;
  std::vector<SegmentRun> parts;
  for (uint64_t end = run.b; end > run.a; end -= length) {
    parts.push_back({.a = end - length, .b = end});
  }
  return parts;
}

// Fewest runs from a to each end that can be reached, the ends in order.
std::optional<std::vector<SegmentRun>> cover(uint64_t a, uint64_t b,
                                             const std::set<SegmentRun>& there) {
  struct Way {
    uint64_t runs = 0;
    uint64_t from = 0;
  };
  std::map<uint64_t, Way> ways{{a, {}}};
  // Sorted by begin: whoever leads to a run's begin comes before it.
  for (auto run = there.lower_bound({.a = a, .b = a}); run != there.end() && run->a < b; ++run) {
    const auto begin = ways.find(run->a);
    if (begin == ways.end() || run->b > b) continue;
    const Way way{.runs = begin->second.runs + 1, .from = run->a};
    const auto [end, added] = ways.try_emplace(run->b, way);
    if (!added && way.runs < end->second.runs) end->second = way;
  }
  if (!ways.contains(b)) return std::nullopt;
  std::vector<SegmentRun> chain;
  for (uint64_t at = b; at > a; at = ways[at].from) {
    chain.push_back({.a = ways[at].from, .b = at});
  }
  return chain;
}

}  // namespace hf::journal
