#include "launcher/process/unit.h"

#include <algorithm>

namespace hf::launcher {

std::chrono::milliseconds Backoff::next_delay(TimePoint now) {
  while (!recent_.empty() && now - recent_.front() > limits_.window) recent_.pop_front();
  if (recent_.empty()) delay_ = std::chrono::milliseconds(0);
  recent_.push_back(now);
  if (recent_.size() <= limits_.quick_restarts_max && delay_.count() == 0) return delay_;
  delay_ = delay_.count() == 0 ? limits_.delay_first : std::min(delay_ * 2, limits_.delay_max);
  // The window is counted from the end of the wait: a long delay does not look like peace.
  recent_.back() = now + delay_;
  return delay_;
}

void Tail::append(std::string_view text) {
  text_ += text;
  if (text_.size() > kStderrTailMax) text_.erase(0, text_.size() - kStderrTailMax);
}

bool wants_restart(const Unit& unit, ExitStatus exit) {
  if (unit.stopping || unit.restart == RestartPolicy::kNever) return false;
  bool core = unit.role == Role::kVault || unit.role == Role::kDaemon;
  if (exit.signal != 0) return true;
  if (exit.status == 0) return core;
  auto failure = sys::find_start_failure(unit.tail.text());
  if (!failure) return true;
  return failure->code == ErrorCode::kUnavailable || failure->code == ErrorCode::kTimeout ||
         (failure->code == ErrorCode::kNoSpace && unit.role == Role::kKeeper);
}

}  // namespace hf::launcher
