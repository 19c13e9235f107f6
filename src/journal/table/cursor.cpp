#include "journal/table/cursor.h"

namespace hf::journal {

void BlockCursor::seek(const TableKey& key) {
  path_.clear();
  block_.reset();
  target_ = key;
  ended_ = table_->footer.levels == 0;
  descending_ = !ended_;
}

void BlockCursor::next() {
  HF_ASSERT(!descending_ && !ended_);
  block_.reset();
  while (!path_.empty() && path_.back().at + 1 == path_.back().page.count()) path_.pop_back();
  if (path_.empty()) {
    ended_ = true;
    return;
  }
  ++path_.back().at;
  target_.reset();
  descending_ = true;
}

Result<PagePtr> BlockCursor::fetch(const PageReference& reference) {
  PagePtr bytes = cache_->find(table_->number, reference);
  if (bytes == nullptr) request_ = {.table = table_->number, .page = reference};
  return bytes;
}

Result<Step> BlockCursor::run() {
  if (ended_) return Step::kEnd;
  while (descending_) {
    const size_t depth = path_.size();
    if (depth == table_->footer.levels) {
      descending_ = false;
      break;
    }
    const PageReference reference =
        depth == 0 ? table_->footer.root : path_.back().page.reference(path_.back().at);
    PagePtr bytes = TRY(fetch(reference));
    if (bytes == nullptr) return Step::kNeedsPage;
    const auto level = static_cast<uint8_t>(table_->footer.levels - depth);
    Page page = TRY(Page::parse(*bytes, level, reference.offset));
    if (page.first(0) != reference.first) return corrupt("a page begins at another key");
    const size_t at = target_ ? page.find(*target_) : 0;
    path_.push_back({.bytes = std::move(bytes), .page = std::move(page), .at = at});
  }
  return Step::kReady;
}

Result<Step> BlockCursor::load() {
  HF_ASSERT(!descending_ && !ended_);
  if (block_ != nullptr) return Step::kReady;
  block_ = TRY(fetch(path_.back().page.reference(path_.back().at)));
  return block_ == nullptr ? Step::kNeedsPage : Step::kReady;
}

std::optional<TableKey> BlockCursor::next_first() const {
  for (auto place = path_.rbegin(); place != path_.rend(); ++place) {
    if (place->at + 1 < place->page.count()) return place->page.first(place->at + 1);
  }
  return std::nullopt;
}

}  // namespace hf::journal
