#include "journal/chain/merge.h"

#include <algorithm>

namespace hf::journal {

MergedSource::MergedSource(Sources newest_first) : MergedSource(std::move(newest_first), {}) {}

MergedSource::MergedSource(Sources newest_first, const Options& options) : options_(options) {
  if (options.oldest_wins) std::ranges::reverse(newest_first);
  for (auto& source : newest_first) heads_.push_back({.source = std::move(source), .extent = {}});
}

Result<bool> MergedSource::fill() {
  for (Head& head : heads_) {
    if (head.extent || head.ended) continue;
    switch (TRY(head.source->run())) {
      case Step::kNeedsPage:
        request_ = &head.source->request();
        return false;
      case Step::kEnd:
        head.ended = true;
        break;
      case Step::kReady:
        head.extent = head.source->current();
        head.source->next();
        break;
    }
  }
  return true;
}

// Every head is filled. The bytes from the lowest key on, to where another source begins or ends.
std::optional<Extent> MergedSource::take_piece() {
  std::optional<TableKey> lowest;
  for (const Head& head : heads_) {
    if (head.extent && (!lowest || head.extent->key() < *lowest)) lowest = head.extent->key();
  }
  if (!lowest) return std::nullopt;
  const auto covers = [&](const Head& head) {
    return head.extent && head.extent->key() == *lowest;
  };
  uint64_t end = UINT64_MAX;
  for (const Head& head : heads_) {
    if (!head.extent || head.extent->volume.value != lowest->major) continue;
    end = std::min(end, covers(head) ? head.extent->end() : head.extent->offset);
  }
  std::optional<Extent> winner;
  Sequence over;
  for (Head& head : heads_) {
    if (!covers(head)) continue;
    Extent piece = *head.extent;
    piece.length = end - piece.offset;
    if (piece.length == head.extent->length) {
      head.extent.reset();
    } else {
      head.extent->cut_front(piece.length);
    }
    if (winner && options_.hidden != nullptr) options_.hidden->on_hidden(piece, over);
    over = piece.sequence;
    if (!winner) winner = piece;
  }
  return winner;
}

Result<Step> MergedSource::run() {
  while (!ready_) {
    if (!TRY(fill())) return Step::kNeedsPage;
    const std::optional<Extent> piece = take_piece();
    if (piece && pending_ && piece->continues(*pending_)) {
      pending_->length += piece->length;
      continue;
    }
    if (!piece && !pending_) return Step::kEnd;
    ready_ = pending_.has_value() && !(pending_->zero && options_.zeroes == Zeroes::kDrop);
    if (ready_) current_ = *pending_;
    pending_ = piece;
  }
  return Step::kReady;
}

void MergedSource::next() {
  HF_ASSERT(ready_);
  ready_ = false;
}

}  // namespace hf::journal
