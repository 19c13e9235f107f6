#include "journal/format/lineage.h"

namespace hf::journal {

const LineageEntry* incarnation_at(const Lineage& lineage, Sequence sequence) {
  for (auto entry = lineage.rbegin(); entry != lineage.rend(); ++entry) {
    if (entry->first <= sequence) return &*entry;
  }
  return nullptr;
}

bool contains(const Lineage& lineage, Sequence last, const Position& position) {
  if (position.sequence.value == 0) return position.incarnation.is_zero();
  if (position.sequence > last) return false;
  const LineageEntry* entry = incarnation_at(lineage, position.sequence);
  return entry != nullptr && entry->body.salt == position.incarnation;
}

}  // namespace hf::journal
