#include "journal/chain/present.h"

namespace hf::journal {

Extent Present::extent_of(const Map::value_type& entry) {
  const auto& [key, node] = entry;
  return {.volume = VolumeId(static_cast<uint32_t>(key.major)),
          .zero = node.zero,
          .offset = key.minor,
          .length = node.length,
          .sequence = Sequence(node.sequence),
          .segment = node.segment,
          .place = node.place,
          .skip = node.skip,
          .leaf = node.leaf};
}

std::pair<TableKey, Present::Node> Present::node_of(const Extent& extent) {
  return {extent.key(),
          {.length = extent.length,
           .sequence = extent.sequence.value,
           .place = extent.place,
           .skip = extent.skip,
           .segment = extent.segment,
           .leaf = extent.leaf,
           .zero = extent.zero}};
}

void Present::insert(const Extent& record, HiddenVisitor* hidden) {
  HF_ASSERT(record.length > 0 && record.end() <= kNumberMax);
  auto at = extents_.lower_bound(record.key());
  if (at != extents_.begin()) {
    const auto before = std::prev(at);
    if (before->first.major == record.volume.value &&
        before->first.minor + before->second.length > record.offset) {
      at = before;
    }
  }
  while (at != extents_.end() && at->first.major == record.volume.value &&
         at->first.minor < record.end()) {
    Extent old = extent_of(*at);
    HF_ASSERT(old.sequence <= record.sequence);
    at = extents_.erase(at);
    if (old.offset < record.offset) {
      Extent left = old;
      left.length = record.offset - old.offset;
      extents_.insert(node_of(left));
      old.cut_front(left.length);
    }
    if (old.end() > record.end()) {
      Extent right = old;
      right.cut_front(record.end() - old.offset);
      old.length -= right.length;
      at = extents_.insert(node_of(right)).first;
    }
    if (hidden != nullptr) hidden->on_hidden(old, record.sequence);
  }
  extents_.insert(node_of(record));
}

std::optional<Extent> Present::find(VolumeId volume, uint64_t offset, uint64_t limit) const {
  auto at = extents_.upper_bound({.major = volume.value, .minor = offset});
  if (at != extents_.begin()) {
    const auto before = std::prev(at);
    if (before->first.major == volume.value && before->first.minor + before->second.length > offset)
      at = before;
  }
  if (at == extents_.end() || at->first.major != volume.value || at->first.minor >= limit) {
    return std::nullopt;
  }
  Extent found = extent_of(*at);
  if (found.offset < offset) found.cut_front(offset - found.offset);
  found.length = std::min(found.length, limit - found.offset);
  return found;
}

std::vector<Extent> Present::sorted() const {
  std::vector<Extent> all;
  all.reserve(extents_.size());
  for (const auto& entry : extents_) all.push_back(extent_of(entry));
  return all;
}

}  // namespace hf::journal
