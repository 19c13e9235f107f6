#include "attestation/verdict/boot_watch.h"

#include <algorithm>

namespace hf::attestation {

Result<BootHead> parse_boot_head(const sys::JsonObject& answer) {
  BootHead head;
  head.total = TRY(sys::get_u64(answer, "total"));
  if (!sys::has_member(answer, "boot")) return head;
  const sys::JsonObject& boot = *TRY(sys::get_object(answer, "boot"));
  if (!TRY(sys::get_bool_or(boot, "powered", true))) return head;  // off, or about to start
  head.boot = TRY(sys::get_string(boot, "id"));
  head.handed_over = sys::has_member(boot, "exit_boot_services");
  head.handed_over_us = TRY(sys::get_u64_or(boot, "exit_us", 0));
  return head;
}

BootWatch::Act BootWatch::take(const BootHead& head, Time now) {
  heard_boot_ = head.boot;
  heard_hand_over_ = head.handed_over;
  if (head.boot.empty()) return Act::kNothing;
  if (head.boot != boot_) {
    boot_ = head.boot;
    state_ = State::kBooting;
    since_ = now;
    stuck_told_ = false;
    due_ = false;
    tries_ = 0;
    not_before_ = now;
    agent_done_ = boot_ == appraised_boot_;
  }
  if (state_ == State::kBooting) {
    if (!head.handed_over) {
      if (stuck_told_ || now - since_ < kStuckAfter || now < not_before_) return Act::kNothing;
      stuck_told_ = true;
      return Act::kAppraiseStuck;
    }
    state_ = State::kStarted;
    since_ = now;
    due_ = boot_ != appraised_boot_;
    tries_ = 0;
    not_before_ = now;
    if (!due_) return Act::kNothing;
  }
  if (due_ && now >= not_before_) {
    due_ = false;
    return Act::kAppraiseBoot;
  }
  if (!has_agent_ || agent_done_ || now - since_ > kAgentWithin) return Act::kNothing;
  return Act::kAskAgent;
}

BootWatch::Millis BootWatch::quiet_for(Time now) const {
  auto until = [now](Time time) {
    return std::clamp(std::chrono::ceil<Millis>(time - now), kPollBooting, kQuietMax);
  };
  if (heard_boot_.empty()) return kQuietMax;
  if (due_) return until(not_before_);
  if (state_ == State::kBooting)
    return stuck_told_ ? kQuietMax : until(std::max(since_ + kStuckAfter, not_before_));
  if (state_ == State::kStarted && has_agent_ && !agent_done_ && now - since_ <= kAgentWithin)
    return kPollRunning;
  return kQuietMax;
}

void BootWatch::again(Time now) {
  if (state_ == State::kStarted) {
    due_ = true;
  } else {
    stuck_told_ = false;
  }
  const int slow = std::min(tries_ - kQuickTries, 6);
  not_before_ =
      now + (slow < 0 ? kPollBooting : std::min<Millis>(kPollRunning * (1 << slow), kAgainMax));
  ++tries_;
}

}  // namespace hf::attestation
