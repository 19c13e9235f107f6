// Ending the site: its guests in order, at once, or not at all; then everything else.
#include <signal.h>

#include <algorithm>
#include <cstdio>

#include "launcher/supervisor.h"

namespace hf::launcher {

using std::chrono::milliseconds;

void Supervisor::on_stop_wanted() {
  const StopKind kind = options_.stop_kind ? options_.stop_kind() : StopKind::kPowerOff;
  if (stage_ == Stage::kGuests) {
    if (kind != StopKind::kPowerOff) return;  // that is under way
    note("the guests that still run are powered off");
    stage_ = Stage::kDaemon;
    return;
  }
  leave_guests_ = kind == StopKind::kLeaveGuests;
  if (kind != StopKind::kGuestsFirst || guests_gone()) {
    note(leave_guests_ ? "stopping; guests run on" : "stopping");
    stage_ = Stage::kDaemon;
    return;
  }
  note("stopping when the guests have shut down, which they are asked to; at the latest in " +
       std::to_string(options_.guests_max.count() / 1000) +
       " s (SIGQUIT, holdfast site stop --force: at once)");
  stage_ = Stage::kGuests;
  guests_until_ = now() + options_.guests_max;
  announce_closing();
}

void Supervisor::announce_closing() {
  const auto left = std::chrono::duration_cast<milliseconds>(guests_until_ - now()).count();
  announce(Event{.kind = Event::Kind::kClosing,
                 .limit_ms = static_cast<uint64_t>(std::max<int64_t>(left, 0))});
}

bool Supervisor::guests_gone() {
  return std::ranges::none_of(
      units_, [](const auto& one) { return one.second.role == Role::kQemu && !one.second.over(); });
}

// Guests, daemon, QEMUs, keepers, vault and link: each group is gone before the next is asked.
void Supervisor::advance_shutdown() {
  if (stage_ == Stage::kGuests) {
    if (!guests_gone()) {
      if (now() < guests_until_) return;
      for (const auto& [name, unit] : units_) {
        if (unit.role != Role::kQemu || unit.over()) continue;
        note(name + ": the guest did not shut down in time, its power is cut");
      }
    }
    stage_ = Stage::kDaemon;
  }
  while (stage_ != Stage::kDone) {
    Role role = stage_ == Stage::kDaemon    ? Role::kDaemon
                : stage_ == Stage::kQemus   ? Role::kQemu
                : stage_ == Stage::kKeepers ? Role::kKeeper
                                            : Role::kVault;
    const bool stays = leave_guests_ && (role == Role::kQemu || role == Role::kKeeper);
    // The link with the vault: keepers ship their last records while they end.
    auto ends_now = [role](const Unit& unit) {
      return unit.role == role || (role == Role::kVault && unit.role == Role::kLink);
    };
    bool left = false;
    for (auto& [name, unit] : units_) {
      if (stays || !ends_now(unit) || unit.over()) continue;
      left = true;
      if (!unit.stopping) begin_stop(unit, SIGTERM, options_.shutdown_step_max);
    }
    if (left) return;
    stage_ = static_cast<Stage>(static_cast<int>(stage_) + 1);
  }
}

}  // namespace hf::launcher
