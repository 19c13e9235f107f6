#include "journal/table/filter.h"

#include <algorithm>

namespace hf::journal {

namespace {
constexpr unsigned kProbes = 7;
constexpr size_t kBitsPerKey = 10;

// The finalizer of splitmix64.
uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// The bit of probe i: at_i * bits / 2^32, where at_i = low + i * (high | 1) modulo 2^32, low and
// high being the halves of the hash.
template <typename Visit>
bool probe(uint64_t hash, size_t bits, Visit visit) {
  const uint32_t step = static_cast<uint32_t>(hash >> 32) | 1;
  uint32_t at = static_cast<uint32_t>(hash);
  for (unsigned i = 0; i < kProbes; ++i, at += step) {
    if (!visit(static_cast<size_t>((uint64_t{at} * bits) >> 32))) return false;
  }
  return true;
}
}  // namespace

uint64_t filter_hash(const TableKey& key) {
  return mix(key.minor + mix(key.major + 0x9e3779b97f4a7c15u));
}

void FilterBuilder::add(const TableKey& key) {
  const uint64_t hash = filter_hash(key);
  // Neighbours touch the same block: the key then comes twice in a row.
  if (!given_up_ && (hashes_.empty() || hashes_.back() != hash)) hashes_.push_back(hash);
}

Bytes FilterBuilder::finish() {
  const size_t size = (hashes_.size() * kBitsPerKey + 63) / 64 * 8;
  Bytes filter;
  if (!given_up_ && size <= kFilterMax) {
    filter.resize(size);
    for (uint64_t hash : hashes_) {
      probe(hash, size * 8, [&](size_t bit) {
        filter[bit / 8] |= std::byte{1} << (bit % 8);
        return true;
      });
    }
  }
  hashes_.clear();
  given_up_ = false;
  return filter;
}

bool may_hold(ByteSpan filter, const TableKey& key) {
  if (filter.empty()) return true;
  return probe(filter_hash(key), filter.size() * 8, [&](size_t bit) {
    return (filter[bit / 8] & (std::byte{1} << (bit % 8))) != std::byte{0};
  });
}

}  // namespace hf::journal
