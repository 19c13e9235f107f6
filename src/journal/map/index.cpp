#include "journal/map/index.h"

#include <algorithm>

namespace hf::journal {

Index::Extents& Index::volume_map(VolumeId volume) { return volumes_[volume.value]; }

// Cuts every extent back to what lies outside [offset, end).
void Index::carve(Extents& extents, uint64_t offset, uint64_t end) {
  HF_ASSERT(offset < end);
  auto at = extents.upper_bound(offset);
  if (at != extents.begin()) {
    auto before = std::prev(at);
    if (before->second.end > offset) {
      const Node whole = before->second;
      if (before->first < offset) {
        before->second.end = offset;
      } else {
        at = extents.erase(before);
        --extents_;
      }
      if (whole.end > end) {
        extents.emplace_hint(at, end, whole);
        ++extents_;
        return;
      }
    }
  }
  while (at != extents.end() && at->first < end) {
    if (at->second.end > end) {
      // The key is the start: the node is re-used under its new one.
      auto node = extents.extract(at);
      node.key() = end;
      extents.insert(std::move(node));
      return;
    }
    at = extents.erase(at);
    --extents_;
  }
}

void Index::insert(VolumeId volume, uint64_t offset, uint64_t length, const Place& place) {
  HF_ASSERT(length > 0 && length <= place.length);
  HF_ASSERT(offset >= place.start && offset + length <= place.start + place.length);
  Extents& extents = volume_map(volume);
  // The common case of a block written again: nothing around it changes.
  if (const auto same = extents.find(offset);
      same != extents.end() && same->second.end == offset + length) {
    same->second.place = place;
    return;
  }
  carve(extents, offset, offset + length);
  const auto [at, inserted] = extents.emplace(offset, Node{.end = offset + length, .place = place});
  HF_ASSERT(inserted && at->second.end > at->first);
  ++extents_;
}

void Index::erase(VolumeId volume, uint64_t offset, uint64_t length) {
  HF_ASSERT(length > 0 && offset + length > offset);
  carve(volume_map(volume), offset, offset + length);
}

std::optional<IndexExtent> Index::find(VolumeId volume, uint64_t offset, uint64_t limit) const {
  const auto found = volumes_.find(volume.value);
  if (found == volumes_.end() || offset >= limit) return {};
  const Extents& extents = found->second;
  auto at = extents.upper_bound(offset);
  if (at != extents.begin() && std::prev(at)->second.end > offset) --at;
  if (at == extents.end() || at->first >= limit) return {};
  const uint64_t start = std::max(at->first, offset);
  const uint64_t end = std::min(at->second.end, limit);
  HF_ASSERT(start < end);
  return IndexExtent{.offset = start, .length = end - start, .place = at->second.place};
}

std::optional<Index::Found> Index::next(const Cursor& from) const {
  for (auto volume = volumes_.lower_bound(from.volume.value); volume != volumes_.end(); ++volume) {
    const uint64_t offset = volume->first == from.volume.value ? from.offset : 0;
    const auto at = volume->second.lower_bound(offset);
    if (at == volume->second.end()) continue;
    return Found{
        .volume = VolumeId(volume->first),
        .extent = {
            .offset = at->first, .length = at->second.end - at->first, .place = at->second.place}};
  }
  return {};
}

}  // namespace hf::journal
