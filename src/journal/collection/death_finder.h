// DeathFinder: what newer extents hide of the chain behind them. In their order, so that each block
// that they touch is read once, and no other: what it costs is a matter of where the guest wrote,
// not of the disk's size. (A guest that writes at random touches a block for each entry, if the
// disk has many more of them than the newer map has entries: then more segments are compared at
// once. The newer side may be any maps that join, merged.)
#pragma once

#include "journal/chain/lookup.h"
#include "journal/chain/source.h"

namespace hf::journal {

class DeathFinder {
 public:
  // All outlive it.
  DeathFinder(ExtentSource& newer, const Chain& behind, PageCache& cache, HiddenVisitor& hidden)
      : newer_(newer), behind_(behind), cache_(cache), hidden_(hidden) {}

  Result<Step> run();  // kEnd: all was told
  const PageRequest& request() const { return *request_; }

 private:
  // Looked up at once: it bounds what one lookup can find.
  static constexpr uint64_t kStepBytes = 16u << 20;

  ExtentSource& newer_;
  const Chain& behind_;
  PageCache& cache_;
  HiddenVisitor& hidden_;
  std::optional<Lookup> lookup_;
  uint64_t done_ = 0;  // bytes of the current extent
  const PageRequest* request_ = nullptr;
};

}  // namespace hf::journal
