#include "journal/units/units.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {

constexpr size_t kDigestSize = 32;

Digest node(const Digest& left, const Digest& right) {
  std::array<std::byte, 1 + 2 * kDigestSize> input{};
  input[0] = std::byte{1};
  std::ranges::copy(left.bytes, input.begin() + 1);
  std::ranges::copy(right.bytes, input.begin() + 1 + kDigestSize);
  return crypto::sha256(input);
}

// Leaves of the left half of a tree over `count` > 1 leaves.
size_t left_half(size_t count) { return std::bit_floor(count - 1); }

bool any_live(const LiveUnits& live, size_t first, size_t count) {
  return std::find(live.begin() + static_cast<ptrdiff_t>(first),
                   live.begin() + static_cast<ptrdiff_t>(first + count),
                   true) != live.begin() + static_cast<ptrdiff_t>(first + count);
}

// Walks the tree over [first, first + count): a hash of `hashes` for each largest subtree that has
// nothing of `given`, a leaf by leaf_of() for each other unit. Tells visit() of every subtree's
// root. nullopt: `hashes` ran out.
template <typename LeafOf, typename Visit>
std::optional<Digest> walk(const LiveUnits& given, std::span<const Digest>& hashes, size_t first,
                           size_t count, const LeafOf& leaf_of, const Visit& visit) {
  Digest root;
  if (!any_live(given, first, count)) {
    if (hashes.empty()) return std::nullopt;
    root = hashes.front();
    hashes = hashes.subspan(1);
  } else if (count == 1) {
    root = leaf_of(first);
  } else {
    const size_t half = left_half(count);
    const auto left = walk(given, hashes, first, half, leaf_of, visit);
    if (!left) return std::nullopt;
    const auto right = walk(given, hashes, first + half, count - half, leaf_of, visit);
    if (!right) return std::nullopt;
    root = node(*left, *right);
  }
  visit(first, count, root);
  return root;
}

// Where each live unit stands among the live ones.
std::vector<size_t> places(const UnitLayout& layout, const LiveUnits& live) {
  std::vector<size_t> at(layout.count());
  size_t end = 0;
  for (size_t i = 0; i < layout.count(); ++i) {
    at[i] = end;
    if (live[i]) end += layout.unit(i).stored_length();
  }
  at.push_back(end);
  return at;
}

}  // namespace

UnitLayout::UnitLayout(uint64_t offset, uint64_t length)
    : offset_(offset), length_(length), count_(unit_count(offset, static_cast<size_t>(length))) {
  HF_ASSERT(length > 0 && length <= kRecordDataMax && offset <= kNumberMax);
  HF_ASSERT(count_ <= kUnitsMax);
}

UnitPart UnitLayout::unit(size_t index) const {
  HF_ASSERT(index < count_);
  const uint64_t block = offset_ / kUnitSize + index;
  const uint64_t begin = std::max(offset_, block * kUnitSize);
  const uint64_t end = std::min(offset_ + length_, (block + 1) * kUnitSize);
  return {.offset = begin,
          .length = static_cast<size_t>(end - begin),
          .stored_at = static_cast<size_t>(begin - offset_) + index * crypto::kTagSize};
}

UnitRange UnitLayout::covering(uint64_t skip, uint64_t length) const {
  HF_ASSERT(length > 0 && length <= length_ && skip <= length_ - length);
  const uint64_t first_block = offset_ / kUnitSize;
  UnitRange range{.first = static_cast<size_t>((offset_ + skip) / kUnitSize - first_block)};
  const auto last = static_cast<size_t>((offset_ + skip + length - 1) / kUnitSize - first_block);
  range.count = last - range.first + 1;
  range.stored_at = unit(range.first).stored_at;
  range.stored_size = unit(last).stored_at + unit(last).stored_length() - range.stored_at;
  return range;
}

Digest unit_leaf(ByteSpan stored_unit) {
  crypto::Sha256 hash;
  const std::array<std::byte, 1> prefix{};
  hash.update(prefix);
  hash.update(stored_unit);
  return hash.finish();
}

Digest payload_root(const UnitLayout& layout, ByteSpan payload) {
  HF_ASSERT(payload.size() == layout.stored_size());
  const LiveUnits all(layout.count(), true);
  std::span<const Digest> none;
  const auto leaf = [&](size_t index) {
    const UnitPart part = layout.unit(index);
    return unit_leaf(payload.subspan(part.stored_at, part.stored_length()));
  };
  return *walk(all, none, 0, layout.count(), leaf, [](size_t, size_t, const Digest&) {});
}

Digest payload_digest(const RecordHeader& header, ByteSpan payload) {
  if (header.kind != RecordKind::kWrite) return crypto::sha256(payload);
  return payload_root(UnitLayout(header.offset, header.length), payload);
}

PrunedPayload prune(const UnitLayout& layout, ByteSpan payload, const LiveUnits& live) {
  const PrunedPayload whole{.hashes = {}, .units = Bytes(payload.begin(), payload.end())};
  return prune_again(layout, whole, LiveUnits(layout.count(), true), live);
}

PrunedPayload prune_again(const UnitLayout& layout, const PrunedPayload& payload,
                          const LiveUnits& before, const LiveUnits& live) {
  HF_ASSERT(live.size() == layout.count() && before.size() == layout.count());
  HF_ASSERT(any_live(live, 0, live.size()));
  const std::vector<size_t> at = places(layout, before);
  HF_ASSERT(payload.units.size() == at.back());
  const auto bytes_of = [&](size_t index) {
    return ByteSpan(payload.units).subspan(at[index], at[index + 1] - at[index]);
  };
  PrunedPayload out;
  // Subtrees come from left to right, each after its halves: a dead one takes their place.
  std::vector<size_t> firsts;  // of the subtree that each hash stands for
  std::span<const Digest> hashes = payload.hashes;
  const auto visit = [&](size_t first, size_t count, const Digest& root) {
    if (any_live(live, first, count)) return;
    while (!firsts.empty() && firsts.back() >= first) {
      out.hashes.pop_back();
      firsts.pop_back();
    }
    out.hashes.push_back(root);
    firsts.push_back(first);
  };
  const auto root = walk(
      before, hashes, 0, layout.count(), [&](size_t index) { return unit_leaf(bytes_of(index)); },
      visit);
  HF_ASSERT(root.has_value() && hashes.empty());
  for (size_t i = 0; i < layout.count(); ++i) {
    HF_ASSERT(!live[i] || before[i]);
    if (!live[i]) continue;
    const ByteSpan unit = bytes_of(i);
    out.units.insert(out.units.end(), unit.begin(), unit.end());
  }
  HF_ASSERT(out.hashes.size() == pruned_hashes(live));
  return out;
}

namespace {
size_t hashes_below(const LiveUnits& live, size_t first, size_t count) {
  if (!any_live(live, first, count)) return 1;
  if (count == 1) return 0;
  const size_t half = left_half(count);
  return hashes_below(live, first, half) + hashes_below(live, first + half, count - half);
}
}  // namespace

size_t pruned_hashes(const LiveUnits& live) { return hashes_below(live, 0, live.size()); }

Status check_pruned(const UnitLayout& layout, const LiveUnits& live, const PrunedPayload& payload,
                    const Digest& root) {
  if (live.size() != layout.count() || !any_live(live, 0, live.size())) {
    return corrupt("a survivor of another record");
  }
  const std::vector<size_t> at = places(layout, live);
  if (payload.units.size() != at.back() || payload.hashes.size() != pruned_hashes(live)) {
    return corrupt("a survivor is cut short");
  }
  std::span<const Digest> hashes = payload.hashes;
  const auto leaf = [&](size_t index) {
    return unit_leaf(ByteSpan(payload.units).subspan(at[index], at[index + 1] - at[index]));
  };
  const auto found =
      walk(live, hashes, 0, layout.count(), leaf, [](size_t, size_t, const Digest&) {});
  if (!found || *found != root) return corrupt("a survivor's units differ from its header");
  return {};
}

}  // namespace hf::journal
