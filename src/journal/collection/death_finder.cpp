#include "journal/collection/death_finder.h"

#include <algorithm>

namespace hf::journal {

Result<Step> DeathFinder::run() {
  while (true) {
    const Step step = TRY(newer_.run());
    if (step == Step::kEnd) return step;
    if (step == Step::kNeedsPage) {
      request_ = &newer_.request();
      return step;
    }
    const Extent& extent = newer_.current();
    if (!lookup_) {
      const Range range{.offset = extent.offset + done_,
                        .length = std::min(extent.length - done_, kStepBytes)};
      lookup_.emplace(behind_, cache_, extent.volume, range);
      done_ += range.length;
    }
    if (TRY(lookup_->run()) == Step::kNeedsPage) {
      request_ = &lookup_->request();
      return Step::kNeedsPage;
    }
    const std::vector<Extent> found = lookup_->found();
    for (const Extent& piece : found) hidden_.on_hidden(piece, extent.sequence);
    lookup_.reset();
    if (done_ == extent.length) {
      newer_.next();
      done_ = 0;
    }
  }
}

}  // namespace hf::journal
