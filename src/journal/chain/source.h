// ExtentSource: disjoint extents in order, one link of a chain or many merged.
#pragma once

#include <span>

#include "journal/chain/extent.h"
#include "journal/table/cursor.h"

namespace hf::journal {

class ExtentSource {
 public:
  virtual ~ExtentSource() = default;
  // kReady: current() is the first not passed yet. kNeedsPage: read request(), put it in the cache.
  virtual Result<Step> run() = 0;
  virtual const Extent& current() const = 0;
  virtual void next() = 0;
  virtual const PageRequest& request() const = 0;
};

// A map, from the first extent that reaches `from` on.
class MapSource final : public ExtentSource {
 public:
  MapSource(const Table& map, PageCache& cache, const TableKey& from = {}) : cursor_(map, cache) {
    cursor_.seek(from);
  }
  Result<Step> run() override { return cursor_.run(); }
  const Extent& current() const override { return cursor_.entry(); }
  void next() override { cursor_.next(); }
  const PageRequest& request() const override { return cursor_.request(); }

 private:
  TableCursor<ExtentCodec> cursor_;
};

// Extents in memory, which outlive it.
class SpanSource final : public ExtentSource {
 public:
  explicit SpanSource(std::span<const Extent> extents) : extents_(extents) {}
  Result<Step> run() override { return at_ < extents_.size() ? Step::kReady : Step::kEnd; }
  const Extent& current() const override { return extents_[at_]; }
  void next() override { ++at_; }
  const PageRequest& request() const override { HF_ASSERT(false); }

 private:
  std::span<const Extent> extents_;
  size_t at_ = 0;
};

}  // namespace hf::journal
