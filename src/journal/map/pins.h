// Pins: what keeps old segments from being merged for a peer's sake, and for how long.
//
//   pin     a peer has everything up to a position: segments with later records stay as they are
//   lease   a seed is being read: base files and segments all stay, for a while after each question
//
// Neither may outlast its use. A peer that is silent, or asks for seeds again and again, would
// otherwise stop merging for ever, and the guest's disk would pay for it. So both are let go once
// they hold more than `bytes_max` (PinRelease says so; the peer then needs a seed), and leases are
// given out only so often between two merges: kLeasesMax descriptions, each of them renewed by no
// more reading than its files take twice.
#pragma once

#include <deque>

#include "journal/log/segment.h"

namespace hf::journal {

// "Peer pin released": told once, to be passed on as an event.
struct PinRelease {
  std::optional<Sequence> pinned;  // none: only a seed's lease was held
  bool seed_lease = false;
  uint64_t held_bytes = 0;  // in segments that would have been merged
  uint64_t bytes_max = 0;
};

class Pins {
 public:
  // `keep_segments`: the newest closed ones stay anyway.
  Pins(uint64_t bytes_max, size_t keep_segments)
      : bytes_max_(bytes_max), keep_segments_(keep_segments) {}

  void pin(std::optional<Sequence> peer_durable) { pinned_ = peer_durable; }
  bool holds(Sequence last) const { return pinned_ && last > *pinned_; }
  // Nothing is taken away before then (monotonic), pinned or not.
  Micros held_until() const { return held_until_; }

  // A seed of so many bytes was described; some of it was read; a merge was switched to.
  void lease(Micros now, uint64_t seed_bytes);
  void renew_lease(Micros now, uint64_t bytes);
  void merged() { leases_left_ = kLeasesMax; }

  // Bytes that pin or lease hold back now.
  uint64_t held_bytes(const std::deque<Segment>& closed, Micros now) const;
  bool exceeded(const std::deque<Segment>& closed, Micros now) const {
    return held_bytes(closed, now) > bytes_max_;
  }
  // Lets go if exceeded.
  void review(const std::deque<Segment>& closed, Micros now);
  std::optional<PinRelease> take_release() { return std::exchange(release_, std::nullopt); }

  static constexpr uint64_t kLeaseUs = 30'000'000;
  static constexpr uint32_t kLeasesMax = 8;
  static constexpr uint64_t kReadCostMin = 64u << 10;  // bytes that the smallest read counts as

 private:
  // What was summed last: closed segments change rarely, and this is asked in every turn.
  struct Sum {
    size_t segments = 0;
    uint64_t newest = 0;
    std::optional<Sequence> pinned;
    bool leased = false;
    uint64_t bytes = 0;
    bool same(const Sum& other) const {
      return segments == other.segments && newest == other.newest && pinned == other.pinned &&
             leased == other.leased;
    }
  };

  const uint64_t bytes_max_;
  const size_t keep_segments_;
  std::optional<Sequence> pinned_;
  Micros held_until_{0};
  uint32_t leases_left_ = kLeasesMax;
  uint64_t renewals_left_ = 0;  // bytes
  std::optional<PinRelease> release_;
  mutable Sum sum_;
};

}  // namespace hf::journal
