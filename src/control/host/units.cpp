#include "control/host/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "sys/json.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr auto kRemoveLimit = 60s;  // of a VM's directories, which may be large
}

std::optional<VmId> vm_of_unit(std::string_view unit, std::string_view prefix) {
  if (!unit.starts_with(prefix)) return std::nullopt;
  Result<VmId> vm = VmId::parse_hex(unit.substr(prefix.size()));
  return vm.ok() ? std::optional<VmId>(*vm) : std::nullopt;
}

Units::Units(sys::UniqueFd launcher_socket, OnEvent on_event, std::function<void()> on_lost,
             std::chrono::milliseconds call_limit)
    : call_limit_(call_limit),
      on_event_(std::move(on_event)),
      client_(std::make_unique<launcher::Client>(
          std::move(launcher_socket), [this](const launcher::Event& event) { take(event); },
          std::move(on_lost))) {}

void Units::take(const launcher::Event& event) {
  {
    std::lock_guard lock(mutex_);
    Known& unit = known_[event.unit];
    // Events may be older than a reply we have seen: only the pid that ran can end.
    if (event.kind == launcher::Event::Kind::kStarted) {
      unit = Known{.running = true, .pid = event.pid, .end = std::nullopt};
    } else if (unit.pid == 0 || unit.pid == event.pid) {
      unit = Known{.running = false,
                   .pid = event.pid,
                   .end = UnitEnd{.exit_status = event.exit_status,
                                  .signal = event.signal,
                                  .stderr_tail = event.stderr_tail,
                                  .will_restart = event.will_restart}};
    }
    unit.heard = ++clock_;
    changed_.notify_all();
  }
  if (on_event_) on_event_(event);
}

Status Units::refresh() {
  uint64_t asked = 0;
  uint64_t doubts = 0;
  {
    std::lock_guard lock(mutex_);
    asked = clock_;
    doubts = doubts_;
  }
  launcher::LauncherStatus all = TRY(client_->status(call_limit_));
  std::vector<launcher::Event> found;
  {
    std::lock_guard lock(mutex_);
    settled_ = std::max(settled_, doubts);
    weaknesses_ = std::move(all.weaknesses);
    first_bar_ = std::max(first_bar_, all.first_bar);
    // They only rise: one that rose meanwhile stays.
    for (const auto& [vm, bar] : all.bars) bars_[vm] = std::max(bars_[vm], bar);
    // The launcher's own bars are above its first: it has given those up.
    std::erase_if(bars_, [&](const auto& item) { return item.second <= first_bar_; });
    found = take_status(all.units, asked);
    changed_.notify_all();
  }
  for (const launcher::Event& event : found) {
    if (on_event_) on_event_(event);
  }
  return {};
}

// Under the mutex. Of what was heard of after the question its events say the newest: those before
// the answer have all been read. What ended and nobody told of.
std::vector<launcher::Event> Units::take_status(const std::vector<launcher::UnitStatus>& units,
                                                uint64_t asked) {
  std::vector<launcher::Event> found;
  std::set<std::string_view> there;
  auto ends = [&](const std::string& name, Known& unit, const UnitEnd& end) {
    unit.running = false;
    unit.end = end;
    found.push_back({.kind = launcher::Event::Kind::kExited,
                     .unit = name,
                     .pid = unit.pid,
                     .exit_status = end.exit_status,
                     .signal = end.signal});
  };
  for (const launcher::UnitStatus& status : units) {
    there.insert(status.unit);
    Known& unit = known_[status.unit];
    if (unit.heard > asked) continue;
    // One that waits for its restart counts as running there.
    const bool waits = unit.end && unit.end->will_restart && unit.pid == status.pid;
    if (status.running && waits) continue;
    const UnitEnd end{.exit_status = status.exit_status, .signal = status.signal};
    if (!status.running && unit.running) {
      unit.pid = status.pid;
      ends(status.unit, unit, end);
      continue;
    }
    unit.running = status.running;
    unit.pid = status.pid;
    if (status.running) unit.end.reset();
    if (!status.running && (!unit.end || unit.end->will_restart)) unit.end = end;
  }
  for (auto& [name, unit] : known_) {
    // Ended so long ago that the launcher has forgotten it.
    if (unit.running && unit.heard <= asked && !there.contains(name))
      ends(name, unit, {.exit_status = -1});
  }
  return found;
}

bool Units::in_doubt() {
  std::lock_guard lock(mutex_);
  return doubts_ > settled_;
}

// What was asked may have happened, or may happen yet: the launcher takes its questions in order,
// so what it says to the next one holds.
void Units::doubt() {
  {
    std::lock_guard lock(mutex_);
    ++doubts_;
  }
  if (!refresh().ok() && on_doubt_) on_doubt_();
}

launcher::Bar Units::bar(VmId vm) {
  std::lock_guard lock(mutex_);
  auto at = bars_.find(vm);
  return at != bars_.end() ? at->second : first_bar_;
}

Status Units::kill_guests(VmId vm) {
  launcher::Bar raised =
      TRY(settled(client_->fence(vm, launcher::FenceReach::kGuests, call_limit_)));
  std::lock_guard lock(mutex_);
  launcher::Bar& known = bars_[vm];
  known = std::max(known, raised);
  return {};
}

Result<int64_t> Units::start(launcher::StartRequest request, const std::vector<int>& fds) {
  if (request.bar == launcher::Bar()) request.bar = bar(request.vm);
  {
    std::lock_guard lock(mutex_);
    known_.erase(request.unit);
  }
  Result<int64_t> started = settled(client_->start(request, fds, call_limit_));
  // It may have been the bar, which the next start has to know. This one was decided before.
  if (!started.ok() && started.error().code == ErrorCode::kConflict) static_cast<void>(refresh());
  int64_t pid = TRY(std::move(started));
  std::lock_guard lock(mutex_);
  Known& unit = known_[request.unit];
  unit.heard = ++clock_;
  // A process that failed at once has had its event already.
  if (!unit.end || unit.pid != pid)
    unit = Known{.running = true, .pid = pid, .end = std::nullopt, .heard = clock_};
  return pid;
}

Status Units::stop(const std::string& unit, int signal, std::chrono::milliseconds timeout) {
  launcher::StopRequest request{.unit = unit,
                                .signal = signal,
                                .timeout_ms = static_cast<uint64_t>(timeout.count()),
                                .remove_vm = std::nullopt};
  Status stopped = settled(client_->stop(request, timeout + call_limit_));
  if (!stopped.ok() && stopped.error().code != ErrorCode::kNotFound) return stopped;
  std::lock_guard lock(mutex_);
  known_[unit].running = false;
  known_[unit].heard = ++clock_;
  changed_.notify_all();
  return {};
}

Status Units::set_aside(VmId vm, const std::string& name) {
  return client_->stop({.unit = keeper_unit(vm), .set_aside_vm = vm, .aside = name}, kRemoveLimit);
}

Status Units::remove_vm(VmId vm) {
  launcher::StopRequest request{
      .unit = keeper_unit(vm), .signal = 15, .timeout_ms = 10000, .remove_vm = vm};
  Status removed = client_->stop(request, kRemoveLimit);
  if (!removed.ok()) {
    if (removed.error().code != ErrorCode::kTimeout) return removed;
    return Error{.code = ErrorCode::kTimeout,
                 .cause = "the VM's directories were not removed within a minute",
                 .effect = "they are still being removed; until then nothing of the VM starts",
                 .mend = "give the command again after a while"};
  }
  const std::string suffix = "-" + vm.hex();
  std::lock_guard lock(mutex_);
  std::erase_if(known_, [&](const auto& item) {
    return !item.second.running && item.first.ends_with(suffix);
  });
  return {};
}

launcher::Weaknesses Units::weaknesses() {
  std::lock_guard lock(mutex_);
  return weaknesses_;
}

bool Units::running(const std::string& unit) {
  std::lock_guard lock(mutex_);
  auto found = known_.find(unit);
  return found != known_.end() && found->second.running;
}

int64_t Units::pid(const std::string& unit) {
  std::lock_guard lock(mutex_);
  auto found = known_.find(unit);
  return found != known_.end() && found->second.running ? found->second.pid : 0;
}

Result<UnitEnd> Units::wait_end(const std::string& unit, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  bool over = changed_.wait_for(lock, limit, [&] {
    auto found = known_.find(unit);
    return found != known_.end() && !found->second.running && found->second.end.has_value();
  });
  if (!over) {
    return Error{.code = ErrorCode::kTimeout,
                 .cause = fmt::format("{} did not end in {} ms", unit, limit.count())};
  }
  return *known_[unit].end;
}

bool Units::wait_over(const std::string& unit, int64_t pid, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  const auto known = [&] {
    auto found = known_.find(unit);
    return found != known_.end() ? found->second : Known{};
  };
  changed_.wait_for(lock, limit, [&] {
    const Known now = known();
    return !now.running || now.pid != pid;
  });
  const Known now = known();
  return !now.running && now.end && !now.end->will_restart;
}

std::optional<UnitEnd> Units::ended(const std::string& unit) {
  std::lock_guard lock(mutex_);
  auto found = known_.find(unit);
  if (found == known_.end() || found->second.running) return std::nullopt;
  return found->second.end;
}

Error error_of_end(const std::string& what, const UnitEnd& end) {
  if (std::optional<Error> said = sys::find_start_failure(end.stderr_tail)) return *said;
  std::string how = end.signal != 0 ? fmt::format("was killed by signal {}", end.signal)
                                    : fmt::format("ended with status {}", end.exit_status);
  std::string_view tail = end.stderr_tail;
  while (!tail.empty() && (tail.back() == '\n' || tail.back() == '\r')) tail.remove_suffix(1);
  size_t line = tail.rfind('\n');
  if (line != std::string_view::npos) tail = tail.substr(line + 1);
  Error error{.code = ErrorCode::kInternal, .cause = what + " " + how};
  if (!tail.empty()) error.cause += ": " + std::string(tail);
  return error;
}

}  // namespace hf::control
