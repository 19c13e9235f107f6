// Present: what the records since the last closed map left behind, in memory: the newest link of
// the chain. Also any part of a segment, up to a position or from one on, by inserting those
// records.
//
// Bounded: a segment closes at kSegmentExtentsMax, so it has at most twice as many pieces.
#pragma once

#include <map>
#include <memory_resource>
#include <optional>
#include <vector>

#include "journal/chain/extent.h"

namespace hf::journal {

inline constexpr size_t kSegmentExtentsMax = 64u << 10;

// Told of what a newer write hides: `piece` as the older record put it there.
class HiddenVisitor {
 public:
  virtual void on_hidden(const Extent& piece, Sequence by) = 0;

 protected:
  ~HiddenVisitor() = default;
};

class Present {
 public:
  Present() = default;
  Present(const Present&) = delete;
  Present& operator=(const Present&) = delete;

  // Records in the line's order; a later one wins where they overlap.
  void insert(const Extent& record, HiddenVisitor* hidden = nullptr);
  // The first extent that ends after `offset`, cut to [offset, limit); none if it begins there.
  std::optional<Extent> find(VolumeId volume, uint64_t offset, uint64_t limit) const;
  std::vector<Extent> sorted() const;
  size_t size() const { return extents_.size(); }

 private:
  struct Node {  // an Extent without what its key says
    uint64_t length = 0;
    uint64_t sequence = 0;
    uint64_t place = 0;
    uint64_t skip = 0;
    uint64_t segment = 0;
    LeafPrefix leaf{};
    bool zero = false;
  };
  using Map = std::pmr::map<TableKey, Node>;
  static Extent extent_of(const Map::value_type& entry);
  static std::pair<TableKey, Node> node_of(const Extent& extent);

  std::pmr::unsynchronized_pool_resource pool_;
  Map extents_{&pool_};
};

}  // namespace hf::journal
