// Keeps what repeats out of the audit log. Each key may have a few lines at once and then one every
// interval, which also says how many were left out before it: a keeper that asks in a loop cannot
// fill the disk, and that it did so is still written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "base/ids.h"

namespace hf::vault {

struct EventLimits {
  uint32_t at_once = 8;
  uint64_t interval_us = 600'000'000;
  size_t keys_max = 4096;
};

template <typename Key>
class EventLimiter {
 public:
  explicit EventLimiter(EventLimits limits = {}) : limits_(limits) {}

  // How many were left out before this one, if it is to be written. `now` is monotonic.
  std::optional<uint64_t> admit(const Key& key, Micros now) {
    auto at = states_.find(key);
    if (at == states_.end()) {
      if (states_.size() >= limits_.keys_max) forget_quiet(now);
      if (states_.size() >= limits_.keys_max) return std::nullopt;
      at = states_.emplace(key, State{.left = limits_.at_once, .since = now, .left_out = 0}).first;
    }
    State& state = at->second;
    const uint64_t intervals = (now.value - state.since.value) / limits_.interval_us;
    if (intervals > 0) {
      state.since = Micros(state.since.value + intervals * limits_.interval_us);
      state.left = static_cast<uint32_t>(
          std::min<uint64_t>(limits_.at_once, uint64_t{state.left} + intervals));
    }
    if (state.left == 0) {
      ++state.left_out;
      return std::nullopt;
    }
    if (state.left == limits_.at_once) state.since = now;
    --state.left;
    return std::exchange(state.left_out, 0);
  }

 private:
  struct State {
    uint32_t left = 0;  // lines that may be written now
    Micros since;       // the last whole interval that was counted
    uint64_t left_out = 0;
  };

  void forget_quiet(Micros now) {
    std::erase_if(states_, [&](const auto& item) {
      const State& state = item.second;
      return now.value - state.since.value >= limits_.at_once * limits_.interval_us;
    });
  }

  EventLimits limits_;
  std::map<Key, State> states_;
};

}  // namespace hf::vault
