#include "journal/chain/lookup.h"

#include <algorithm>

namespace hf::journal {

Lookup::Lookup(const Chain& chain, PageCache& cache, VolumeId volume, const Range& range)
    : chain_(chain), cache_(cache), volume_(volume), open_{range} {
  HF_ASSERT(range.length > 0 && range.end() <= kNumberMax);
  for (const Present* front : chain.fronts) look_in(*front);
}

void Lookup::look_in(const Present& front) {
  std::vector<Range> left;
  for (const Range& hole : open_) {
    uint64_t at = hole.offset;
    while (at < hole.end()) {
      const std::optional<Extent> extent = front.find(volume_, at, hole.end());
      const uint64_t begin = extent ? extent->offset : hole.end();
      if (begin > at) left.push_back({.offset = at, .length = begin - at});
      if (!extent) break;
      found_.push_back(*extent);
      at = extent->end();
    }
  }
  open_ = std::move(left);
}

Result<Step> Lookup::run() {
  while (link_ < chain_.maps.size() && !open_.empty()) {
    const Step step = TRY(run_map(*chain_.maps[link_]));
    if (step == Step::kNeedsPage) return step;
    open_ = std::exchange(left_, {});
    cursor_.reset();
    hole_ = 0;
    sought_ = false;
    ++link_;
  }
  return Step::kEnd;
}

// From each hole's begin the block that may reach into it, and those that begin inside it.
Result<Step> Lookup::run_map(const Table& map) {
  if (!cursor_) cursor_.emplace(map, cache_);
  while (hole_ < open_.size()) {
    const Range& hole = open_[hole_];
    const auto end_hole = [&] {
      if (from_ < hole.end()) left_.push_back({.offset = from_, .length = hole.end() - from_});
      ++hole_;
      sought_ = false;
    };
    if (!sought_) {
      from_ = hole.offset;
      cursor_->seek({.major = volume_.value, .minor = hole.offset});
      sought_ = true;
    }
    const auto needs_page = [&] {
      request_ = cursor_->request();
      return Step::kNeedsPage;
    };
    const Step step = TRY(cursor_->run());
    if (step == Step::kNeedsPage) return needs_page();
    const TableKey end{.major = volume_.value, .minor = hole.end()};
    if (step == Step::kEnd || cursor_->first() >= end || from_ >= hole.end()) {
      end_hole();
      continue;
    }
    const Range rest{.offset = from_, .length = hole.end() - from_};
    if (!filters_lie && may_touch(cursor_->filter(), volume_, rest.offset, rest.length)) {
      if (TRY(cursor_->load()) == Step::kNeedsPage) return needs_page();
      TRY(take_block(rest, cursor_->first(), left_));
    }
    if (const auto next = cursor_->next_first(); !next || *next >= end) {
      end_hole();
      continue;
    }
    cursor_->next();
  }
  return Step::kEnd;
}

Status Lookup::take_block(const Range& hole, const TableKey& first, std::vector<Range>& left) {
  ++blocks_;
  const ByteSpan bytes = *cursor_->block();
  if (bytes.size() < 2) return corrupt("a block is cut short");
  VarReader in(bytes.subspan(2));
  std::optional<Extent> extent;
  for (size_t count = load_le<uint16_t>(bytes.data()); count > 0; --count) {
    Extent next = TRY(ExtentCodec::decode(in, extent ? &*extent : nullptr));
    if (in.failed()) return corrupt("a block: an entry is cut short");
    if (extent ? next.key() <= extent->key() : next.key() != first) {
      return corrupt("a block: its entries are out of order");
    }
    extent = next;
    if (extent->volume < volume_ || (extent->volume == volume_ && extent->end() <= hole.offset)) {
      continue;
    }
    if (extent->volume > volume_ || extent->offset >= hole.end()) break;
    take(*extent, hole, left);
  }
  return {};
}

void Lookup::take(const Extent& extent, const Range& hole, std::vector<Range>& left) {
  Extent piece = extent;
  if (piece.offset < from_) piece.cut_front(from_ - piece.offset);
  piece.length = std::min(piece.length, hole.end() - piece.offset);
  if (piece.offset > from_) left.push_back({.offset = from_, .length = piece.offset - from_});
  from_ = piece.end();
  found_.push_back(piece);
}

std::vector<Extent> Lookup::found() {
  std::ranges::sort(found_, {}, &Extent::offset);
  return std::move(found_);
}

}  // namespace hf::journal
