// Which log lines pass, where others cause them: of each kind, and of each site that is known, a
// few at once, then one in ten seconds, which says how many were left out. So nobody outside can
// push out of the log what matters, and no site what another has to do with.
//
// Pure: the clock is the caller's. One thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "base/ids.h"

namespace hf {

// `Kind`: an enum of `kKinds` values from 0.
template <typename Kind, size_t kKinds>
class LogLimiter {
 public:
  static constexpr uint32_t kBurst = 10;
  static constexpr uint64_t kRefillUs = 10'000'000;
  // Sites that have something left out or written lately. Beyond it they share the strangers'.
  static constexpr size_t kSitesMax = 1024;
  // How many of this kind were left out before it, if this one passes.
  struct Verdict {
    bool passes = false;
    uint64_t left_out = 0;
  };
  // Of strangers, all together.
  Verdict look(Kind kind, Micros now) { return strangers_[index(kind)].look(now); }
  // Of a site that has shown who it is.
  Verdict look(Kind kind, SiteId site, Micros now) {
    auto at = sites_.find(site);
    if (at == sites_.end()) {
      if (sites_.size() >= kSitesMax) forget_idle(now);
      if (sites_.size() >= kSitesMax) return look(kind, now);
      at = sites_.try_emplace(site).first;
    }
    return at->second[index(kind)].look(now);
  }

 private:
  struct Bucket {
    uint32_t tokens = kBurst;
    uint64_t refilled_us = 0;
    uint64_t left_out = 0;

    void refill(Micros now) {
      const uint64_t earned = (now.value - refilled_us) / kRefillUs;
      if (earned == 0) return;
      tokens = static_cast<uint32_t>(std::min<uint64_t>(kBurst, tokens + earned));
      refilled_us += earned * kRefillUs;
    }
    Verdict look(Micros now) {
      refill(now);
      if (tokens == 0) {
        ++left_out;
        return {};
      }
      --tokens;
      return {.passes = true, .left_out = std::exchange(left_out, 0)};
    }
    bool idle() const { return tokens == kBurst && left_out == 0; }
  };
  using Buckets = std::array<Bucket, kKinds>;

  static size_t index(Kind kind) { return static_cast<size_t>(kind); }
  void forget_idle(Micros now) {
    for (auto& [site, buckets] : sites_) {
      for (Bucket& bucket : buckets) bucket.refill(now);
    }
    std::erase_if(sites_,
                  [](const auto& item) { return std::ranges::all_of(item.second, &Bucket::idle); });
  }

  Buckets strangers_;
  std::map<SiteId, Buckets> sites_;
};

}  // namespace hf
