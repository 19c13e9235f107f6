// Lookup: who put the bytes of one range there, asked of a chain link by link, the newest first. It
// ends when nothing is left open; what is left open after the last link was never written (or, in a
// root without zeroes, zeroed): a backing shows there, or zeroes.
//
// A link of maps costs a page that either leads to a block or shows that it holds nothing; upper
// pages and filters stay in the cache.
#pragma once

#include "journal/chain/present.h"
#include "journal/table/cursor.h"

namespace hf::journal {

struct Range {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool operator==(const Range&) const = default;
  uint64_t end() const { return offset + length; }
};

// What a position shows: its own segment's table up to it (and those of segments before it that
// have no map yet), and the maps behind, the newest first.
struct Chain {
  std::vector<const Present*> fronts;
  std::vector<const Table*> maps;
};

class Lookup {
 public:
  // Chain and cache outlive it.
  Lookup(const Chain& chain, PageCache& cache, VolumeId volume, const Range& range);

  // kEnd: found() and open() are the answer. kNeedsPage: read request(), put it, run() again.
  Result<Step> run();
  const PageRequest& request() const { return request_; }

  std::vector<Extent> found();  // in order, cut to the range
  const std::vector<Range>& open() const { return open_; }
  uint64_t blocks_looked_at() const { return blocks_; }
  bool filters_lie = false;  // a fault that tests plant

 private:
  Result<Step> run_map(const Table& map);
  Status take_block(const Range& hole, const TableKey& first, std::vector<Range>& left);
  void take(const Extent& extent, const Range& hole, std::vector<Range>& left);
  void look_in(const Present& front);

  const Chain& chain_;
  PageCache& cache_;
  const VolumeId volume_;
  std::vector<Range> open_;  // in order
  std::vector<Extent> found_;
  size_t link_ = 0;
  // Within a link: the hole that is looked at, what is left of it and of those before.
  std::optional<BlockCursor> cursor_;
  size_t hole_ = 0;
  uint64_t from_ = 0;  // of the hole, what lies before is answered
  std::vector<Range> left_;
  bool sought_ = false;
  PageRequest request_;
  uint64_t blocks_ = 0;
};

}  // namespace hf::journal
