// Which log lines pass, where others cause them: of each kind a few at once, then one in ten
// seconds, which says how many were left out. So nobody outside can push out of the log what
// matters.
//
// Pure: the clock is the caller's. One thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/ids.h"

namespace hf {

// `Kind`: an enum of `kKinds` values from 0.
template <typename Kind, size_t kKinds>
class LogLimiter {
 public:
  static constexpr uint32_t kBurst = 10;
  static constexpr uint64_t kRefillUs = 10'000'000;
  // How many of this kind were left out before it, if this one passes.
  struct Verdict {
    bool passes = false;
    uint64_t left_out = 0;
  };
  Verdict look(Kind kind, Micros now) {
    Bucket& bucket = buckets_[static_cast<size_t>(kind)];
    const uint64_t earned = (now.value - bucket.refilled_us) / kRefillUs;
    if (earned > 0) {
      bucket.tokens = static_cast<uint32_t>(std::min<uint64_t>(kBurst, bucket.tokens + earned));
      bucket.refilled_us += earned * kRefillUs;
    }
    if (bucket.tokens == 0) {
      ++bucket.left_out;
      return {};
    }
    --bucket.tokens;
    return {.passes = true, .left_out = std::exchange(bucket.left_out, 0)};
  }

 private:
  struct Bucket {
    uint32_t tokens = kBurst;
    uint64_t refilled_us = 0;
    uint64_t left_out = 0;
  };
  std::array<Bucket, kKinds> buckets_;
};

}  // namespace hf
