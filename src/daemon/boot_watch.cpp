#include "daemon/boot_watch.h"

namespace hf::daemon {

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
  if (head.boot.empty()) return Act::kNothing;
  if (head.boot != boot_) {
    boot_ = head.boot;
    state_ = State::kBooting;
    since_ = now;
    stuck_told_ = false;
    agent_done_ = boot_ == appraised_boot_;
  }
  if (state_ == State::kBooting) {
    if (head.handed_over) {
      state_ = State::kStarted;
      since_ = now;
      return boot_ == appraised_boot_ ? Act::kNothing : Act::kAppraiseBoot;
    }
    if (stuck_told_ || now - since_ < kStuckAfter) return Act::kNothing;
    stuck_told_ = true;
    return Act::kAppraiseStuck;
  }
  if (!has_agent_ || agent_done_ || now - since_ > kAgentWithin) return Act::kNothing;
  return Act::kAskAgent;
}

}  // namespace hf::daemon
