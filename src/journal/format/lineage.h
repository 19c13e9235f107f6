// Lineage: the incarnations a journal's line of records went through, oldest first.
//
// Sequence numbers go on along a line: an incarnation's first record (its incarnation record) has
// the number after its parent's last inherited one. Peers compare (incarnation, sequence, chain),
// never bare numbers.
#pragma once

#include <vector>

#include "journal/format/format.h"

namespace hf::journal {

struct LineageEntry {
  IncarnationBody body;
  Sequence first;  // sequence of the incarnation record
  Micros time;     // when it was written
  bool operator==(const LineageEntry&) const = default;
};

// A replica takes no more of them: each is kept in memory and in MANIFEST.
inline constexpr size_t kLineageMax = 1u << 18;

using Lineage = std::vector<LineageEntry>;

// The end of a line: its last record and the chain value after it. Zeroes: an empty journal.
struct LineEnd {
  Position position;
  Digest chain;
  bool operator==(const LineEnd&) const = default;
};

// Which incarnation wrote `sequence`; nullptr if none did (before the first).
const LineageEntry* incarnation_at(const Lineage& lineage, Sequence sequence);
// True if `position` is a place in this lineage, given its last sequence. The zero position (before
// everything) is.
bool contains(const Lineage& lineage, Sequence last, const Position& position);

}  // namespace hf::journal
