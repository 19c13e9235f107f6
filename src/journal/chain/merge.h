// MergedSource: several sources as one, the newest first: where they overlap the newest wins. The
// result is canonical: neighbouring pieces of one record are one extent, so it is the same however
// its parts were merged before.
//
// It makes larger maps of small ones; it shows a chain in order, at any position (the table of the
// position's segment up to it, then the maps behind); and, over the links of after P up to Q, what
// changed between them. Whoever compares a new map with the chain behind it hears what it hides.
#pragma once

#include <memory>

#include "journal/chain/present.h"
#include "journal/chain/source.h"

namespace hf::journal {

class MergedSource final : public ExtentSource {
 public:
  enum class Zeroes : uint8_t { kKeep, kDrop };  // drop: nothing lies under the oldest source
  struct Options {
    Zeroes zeroes = Zeroes::kKeep;
    HiddenVisitor* hidden = nullptr;
    bool oldest_wins = false;  // a fault that tests plant
  };
  using Sources = std::vector<std::unique_ptr<ExtentSource>>;
  explicit MergedSource(Sources newest_first);
  MergedSource(Sources newest_first, const Options& options);

  Result<Step> run() override;
  const Extent& current() const override { return current_; }
  void next() override;
  const PageRequest& request() const override { return *request_; }

 private:
  struct Head {
    std::unique_ptr<ExtentSource> source;
    std::optional<Extent> extent;  // what is left of its current one
    bool ended = false;
  };
  Result<bool> fill();  // false: a page is needed
  std::optional<Extent> take_piece();

  std::vector<Head> heads_;
  Options options_;
  std::optional<Extent> pending_;  // may still grow
  Extent current_;
  bool ready_ = false;
  const PageRequest* request_ = nullptr;
};

}  // namespace hf::journal
