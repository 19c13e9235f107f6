// BlockCursor: over the blocks of a table in the order of their keys, reading nothing by itself.
//
//   seek(key) or next()  ─▶ run() ─▶ kReady      stands at a block: first(), filter()
//                             │  ▲  └▶ kEnd       there is none
//                             ▼  │
//                          kNeedsPage: read request(), PageCache::put(), run() again
//
//   load() likewise, for the block's own bytes.
#pragma once

#include <optional>

#include "journal/table/cache.h"
#include "journal/table/coding.h"

namespace hf::journal {

struct Table {
  uint64_t number = 0;  // the owner's; pages are cached and asked for under it
  TableFooter footer;
};

enum class Step : uint8_t { kReady, kEnd, kNeedsPage };

class BlockCursor {
 public:
  // Both outlive it.
  BlockCursor(const Table& table, PageCache& cache) : table_(&table), cache_(&cache) {}

  void seek(const TableKey& key);  // the last block that begins at or before it, or the first
  void next();                     // after kReady
  Result<Step> run();
  Result<Step> load();
  const PageRequest& request() const { return request_; }

  TableKey first() const { return path_.back().page.first(path_.back().at); }
  ByteSpan filter() const { return path_.back().page.filter(path_.back().at); }
  // The first key after this block, if this page says it.
  std::optional<TableKey> next_first() const;
  const PagePtr& block() const { return block_; }

 private:
  struct Place {
    PagePtr bytes;
    Page page;
    size_t at = 0;
  };
  Result<PagePtr> fetch(const PageReference& reference);  // nullptr: asked for

  const Table* table_;
  PageCache* cache_;
  std::vector<Place> path_;  // from the root's page down
  bool descending_ = false;
  bool ended_ = false;
  std::optional<TableKey> target_;  // where to go on the way down; none: to the left
  PagePtr block_;
  PageRequest request_;
};

// Entries of a table, one after the other.
template <typename Codec>
class TableCursor {
 public:
  using Entry = typename Codec::Entry;
  TableCursor(const Table& table, PageCache& cache) : blocks_(table, cache) {}

  // To the first entry whose key is at or after `key`, or the one before it: it may reach there.
  void seek(const TableKey& key) {
    blocks_.seek(key);
    target_ = key;
    state_ = State::kSeeking;
  }
  void next() {
    HF_ASSERT(state_ == State::kAt);
    state_ = State::kInBlock;
  }
  // kReady: entry() is it.
  Result<Step> run() {
    while (true) {
      if (state_ == State::kAt) return Step::kReady;
      if (state_ == State::kSeeking) {
        const Step step = TRY(blocks_.run());
        if (step != Step::kReady) return step;
        state_ = State::kLoading;
      }
      if (state_ == State::kLoading) {
        const Step step = TRY(blocks_.load());
        if (step != Step::kReady) return step;
        TRY(begin_block());
        state_ = State::kInBlock;
      }
      if (left_ == 0) {
        if (!in_.at_end()) return corrupt("a block: more bytes than it says");
        blocks_.next();
        state_ = State::kSeeking;
        continue;
      }
      TRY(decode());
      if (target_ && passes(*target_)) continue;
      target_.reset();
      state_ = State::kAt;
    }
  }
  const Entry& entry() const { return entry_; }
  const PageRequest& request() const { return blocks_.request(); }

 private:
  enum class State : uint8_t { kSeeking, kLoading, kInBlock, kAt };
  Status begin_block() {
    const ByteSpan bytes = *blocks_.block();
    if (bytes.size() < 2) return corrupt("a block is cut short");
    left_ = load_le<uint16_t>(bytes.data());
    in_ = VarReader(bytes.subspan(2));
    held_ = blocks_.block();
    previous_.reset();
    return {};
  }
  Status decode() {
    entry_ = TRY(Codec::decode(in_, previous_ ? &*previous_ : nullptr));
    if (in_.failed()) return corrupt("a block: an entry is cut short");
    if (previous_ ? Codec::key(entry_) <= Codec::key(*previous_)
                  : Codec::key(entry_) != blocks_.first()) {
      return corrupt("a block: its entries are out of order");
    }
    previous_ = entry_;
    --left_;
    return {};
  }
  bool passes(const TableKey& target) const { return !Codec::reaches(entry_, target); }

  BlockCursor blocks_;
  State state_ = State::kSeeking;
  std::optional<TableKey> target_;
  PagePtr held_;
  VarReader in_{{}};
  size_t left_ = 0;
  std::optional<Entry> previous_;
  Entry entry_{};
};

}  // namespace hf::journal
