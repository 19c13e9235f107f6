// TableWriter: sorted entries in, a table's bytes out, in order and without keeping them: about two
// pages a level in memory. The bytes are a function of the entries alone.
//
// A Codec says what an entry is:
//   using Entry; kKind; kEncodedMax (bytes of one entry, at most)
//   TableKey key(entry)
//   encode(VarWriter&, const Entry* previous, entry)           previous: in this block, or none
//   Result<Entry> decode(VarReader&, const Entry* previous)
//   touch(entry, FilterBuilder&)                               what lookups may ask for
#pragma once

#include <deque>

#include "journal/table/coding.h"
#include "journal/table/filter.h"

namespace hf::journal {

// Takes the bytes of a table as they come.
class TableSink {
 public:
  virtual void take(ByteSpan bytes) = 0;

 protected:
  ~TableSink() = default;
};

// Blocks in, pages above them out.
class PageStacker {
 public:
  explicit PageStacker(TableSink& sink) : sink_(sink) {}
  void add_block(const TableKey& first, ByteSpan block, ByteSpan filter);
  TableFooter finish(TableKind kind, uint64_t entries);  // the sink has all but the footer then

 private:
  struct Level {
    TableKey first;  // of its first reference
    Bytes page;
    uint16_t count = 0;
  };
  PageReference write(const TableKey& first, ByteSpan bytes);
  void add(size_t level, const PageReference& reference, ByteSpan filter);
  PageReference write_page(size_t level);

  TableSink& sink_;
  std::deque<Level> levels_;  // references stay valid while it grows
  uint64_t written_ = 0;
};

template <typename Codec>
class TableWriter {
 public:
  using Entry = typename Codec::Entry;
  static_assert(Codec::kEncodedMax + 2 <= kTablePageMax);
  explicit TableWriter(TableSink& sink) : pages_(sink) { begin_block(); }

  void add(const Entry& entry) {
    HF_ASSERT(entries_ == 0 || last_key_ < Codec::key(entry));
    encode(entry, count_ == 0 ? nullptr : &previous_);
    if (block_.size() + scratch_.size() > kTablePageMax) {
      end_block();
      encode(entry, nullptr);
    }
    if (count_ == 0) first_ = Codec::key(entry);
    block_.insert(block_.end(), scratch_.begin(), scratch_.end());
    Codec::touch(entry, filter_);
    previous_ = entry;
    last_key_ = Codec::key(entry);
    ++count_;
    ++entries_;
  }
  TableFooter finish() {
    if (count_ > 0) end_block();
    return pages_.finish(Codec::kKind, entries_);
  }

 private:
  void encode(const Entry& entry, const Entry* previous) {
    scratch_.clear();
    VarWriter out(scratch_);
    Codec::encode(out, previous, entry);
    HF_ASSERT(scratch_.size() <= Codec::kEncodedMax);
  }
  void begin_block() {
    block_.assign(2, std::byte{0});
    count_ = 0;
  }
  void end_block() {
    store_le(block_.data(), count_);
    pages_.add_block(first_, block_, filter_.finish());
    begin_block();
  }

  PageStacker pages_;
  FilterBuilder filter_;
  Bytes block_;
  Bytes scratch_;
  TableKey first_;
  TableKey last_key_;
  Entry previous_{};
  uint16_t count_ = 0;
  uint64_t entries_ = 0;
};

}  // namespace hf::journal
