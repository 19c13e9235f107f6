#include "journal/map/pins.h"

#include <algorithm>

namespace hf::journal {

void Pins::lease(Micros now, uint64_t seed_bytes) {
  if (leases_left_ == 0) return;
  --leases_left_;
  renewals_left_ = 2 * seed_bytes + 16 * kReadCostMin;
  held_until_ = Micros(now.value + kLeaseUs);
}

void Pins::renew_lease(Micros now, uint64_t bytes) {
  // One that has run out is not taken up again: the reader asks for a description anew.
  if (now >= held_until_) return;
  const uint64_t cost = std::max(bytes, kReadCostMin);
  if (cost > renewals_left_) return;
  renewals_left_ -= cost;
  held_until_ = Micros(now.value + kLeaseUs);
}

uint64_t Pins::held_bytes(const std::deque<Segment>& closed, Micros now) const {
  const bool leased = now < held_until_;
  if (closed.size() <= keep_segments_ || (!pinned_ && !leased)) return 0;
  Sum sum{.segments = closed.size(),
          .newest = closed.back().number,
          .pinned = pinned_,
          .leased = leased};
  if (sum.same(sum_)) return sum_.bytes;
  for (size_t i = 0; i < closed.size() - keep_segments_; ++i) {
    if (leased || holds(closed[i].closed->last)) sum.bytes += closed[i].closed_size();
  }
  sum_ = sum;
  return sum.bytes;
}

void Pins::review(const std::deque<Segment>& closed, Micros now) {
  const uint64_t held = held_bytes(closed, now);
  if (held <= bytes_max_) return;
  release_ = PinRelease{.pinned = pinned_,
                        .seed_lease = now < held_until_,
                        .held_bytes = held,
                        .bytes_max = bytes_max_};
  pinned_.reset();
  held_until_ = Micros(0);
}

}  // namespace hf::journal
