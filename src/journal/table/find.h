// Finder: the entry of exactly one key, in tables that lie over each other, the newest first. A
// table whose filter says no costs no block.
#pragma once

#include "journal/table/cursor.h"
#include "journal/table/filter.h"

namespace hf::journal {

template <typename Codec>
class Finder {
 public:
  // Tables and cache outlive it.
  Finder(std::span<const Table* const> newest_first, PageCache& cache, const TableKey& key)
      : tables_(newest_first), cache_(cache), key_(key) {}

  // kReady: found() is it. kEnd: no table has it.
  Result<Step> run() {
    while (at_ < tables_.size()) {
      if (!blocks_) {
        blocks_.emplace(*tables_[at_], cache_);
        blocks_->seek(key_);
      }
      Step step = TRY(blocks_->run());
      if (step == Step::kNeedsPage) return step;
      if (step == Step::kReady && may_hold(blocks_->filter(), key_)) {
        step = TRY(blocks_->load());
        if (step == Step::kNeedsPage) return step;
        if (TRY(look())) return Step::kReady;
      }
      blocks_.reset();
      ++at_;
    }
    return Step::kEnd;
  }
  const typename Codec::Entry& found() const { return found_; }
  const PageRequest& request() const { return blocks_->request(); }

 private:
  Result<bool> look() {
    const ByteSpan bytes = *blocks_->block();
    if (bytes.size() < 2) return corrupt("a block is cut short");
    VarReader in(bytes.subspan(2));
    std::optional<typename Codec::Entry> before;
    for (size_t count = load_le<uint16_t>(bytes.data()); count > 0; --count) {
      before = TRY(Codec::decode(in, before ? &*before : nullptr));
      if (in.failed()) return corrupt("a block: an entry is cut short");
      if (Codec::key(*before) >= key_) break;
    }
    if (!before || Codec::key(*before) != key_) return false;
    found_ = *before;
    return true;
  }

  std::span<const Table* const> tables_;
  PageCache& cache_;
  const TableKey key_;
  size_t at_ = 0;
  std::optional<BlockCursor> blocks_;
  typename Codec::Entry found_{};
};

}  // namespace hf::journal
