#include "attestation/baseline/sequence_diff.h"

#include <algorithm>
#include <cstring>

namespace hf::attestation {
namespace {

// The table of the longest common subsequence has this many cells at most.
constexpr size_t kCellsMax = size_t{1} << 20;

bool same(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

struct Range {
  size_t begin;
  size_t end;
  size_t size() const { return end - begin; }
};

void pair_up(Range was, Range is, std::vector<Alignment>& out) {
  size_t pairs = std::max(was.size(), is.size());
  for (size_t i = 0; i < pairs; ++i) {
    Alignment alignment;
    if (i < was.size()) alignment.was = was.begin + i;
    if (i < is.size()) alignment.is = is.begin + i;
    out.push_back(alignment);
  }
}

void align(const std::vector<ByteSpan>& a, Range was, const std::vector<ByteSpan>& b, Range is,
           std::vector<Alignment>& out) {
  size_t rows = was.size();
  size_t columns = is.size();
  if (rows == 0 || columns == 0 || rows > kCellsMax / columns) return pair_up(was, is, out);
  // common[i][j]: length of the longest common subsequence of what is left from i and j on.
  std::vector<uint32_t> common((rows + 1) * (columns + 1), 0);
  auto cell = [&](size_t i, size_t j) -> uint32_t& { return common[i * (columns + 1) + j]; };
  for (size_t i = rows; i-- > 0;) {
    for (size_t j = columns; j-- > 0;) {
      cell(i, j) = same(a[was.begin + i], b[is.begin + j])
                       ? cell(i + 1, j + 1) + 1
                       : std::max(cell(i + 1, j), cell(i, j + 1));
    }
  }
  size_t i = 0;
  size_t j = 0;
  size_t gap_i = 0;
  size_t gap_j = 0;
  auto close_gap = [&] {
    pair_up({was.begin + gap_i, was.begin + i}, {is.begin + gap_j, is.begin + j}, out);
  };
  while (i < rows && j < columns) {
    if (same(a[was.begin + i], b[is.begin + j])) {
      close_gap();
      gap_i = ++i;
      gap_j = ++j;
    } else if (cell(i + 1, j) >= cell(i, j + 1)) {
      ++i;
    } else {
      ++j;
    }
  }
  i = rows;
  j = columns;
  close_gap();
}

}  // namespace

std::vector<Alignment> differing(const std::vector<ByteSpan>& was,
                                 const std::vector<ByteSpan>& is) {
  size_t front = 0;
  size_t shorter = std::min(was.size(), is.size());
  while (front < shorter && same(was[front], is[front])) ++front;
  size_t back = 0;
  while (back < shorter - front && same(was[was.size() - 1 - back], is[is.size() - 1 - back])) {
    ++back;
  }
  std::vector<Alignment> out;
  if (front == was.size() && front == is.size()) return out;
  align(was, {front, was.size() - back}, is, {front, is.size() - back}, out);
  return out;
}

}  // namespace hf::attestation
