#include "control/host/units.h"

#include <fmt/format.h>

#include "sys/json.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr std::chrono::milliseconds kCallLimit = 15s;
}

std::optional<VmId> vm_of_unit(std::string_view unit, std::string_view prefix) {
  if (!unit.starts_with(prefix)) return std::nullopt;
  Result<VmId> vm = VmId::parse_hex(unit.substr(prefix.size()));
  return vm.ok() ? std::optional<VmId>(*vm) : std::nullopt;
}

Units::Units(sys::UniqueFd launcher_socket, OnEvent on_event, std::function<void()> on_lost)
    : on_event_(std::move(on_event)),
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
    changed_.notify_all();
  }
  if (on_event_) on_event_(event);
}

Status Units::refresh() {
  launcher::LauncherStatus all = TRY(client_->status(kCallLimit));
  std::lock_guard lock(mutex_);
  weaknesses_ = std::move(all.weaknesses);
  first_bar_ = all.first_bar;
  bars_ = std::move(all.bars);
  for (const launcher::UnitStatus& status : all.units) {
    Known& unit = known_[status.unit];
    unit.running = status.running;
    unit.pid = status.pid;
    if (!status.running && !unit.end) {
      unit.end =
          UnitEnd{.exit_status = status.exit_status, .signal = status.signal, .stderr_tail = ""};
    }
  }
  changed_.notify_all();
  return {};
}

launcher::Bar Units::bar(VmId vm) {
  std::lock_guard lock(mutex_);
  auto at = bars_.find(vm);
  return at != bars_.end() ? at->second : first_bar_;
}

Status Units::kill_guests(VmId vm) {
  launcher::Bar raised = TRY(client_->fence(vm, launcher::FenceReach::kGuests, kCallLimit));
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
  Result<int64_t> started = client_->start(request, fds, kCallLimit);
  // It may run all the same; what is not known of is neither used nor stopped.
  if (!started.ok() && started.error().code == ErrorCode::kTimeout) static_cast<void>(refresh());
  const int64_t pid = TRY(std::move(started));
  std::lock_guard lock(mutex_);
  Known& unit = known_[request.unit];
  // A process that failed at once has had its event already.
  if (!unit.end || unit.pid != pid) unit = Known{.running = true, .pid = pid, .end = std::nullopt};
  return pid;
}

Status Units::stop(const std::string& unit, int signal, std::chrono::milliseconds timeout) {
  launcher::StopRequest request{.unit = unit,
                                .signal = signal,
                                .timeout_ms = static_cast<uint64_t>(timeout.count()),
                                .remove_vm = std::nullopt};
  Status stopped = client_->stop(request, timeout + kCallLimit);
  if (!stopped.ok() && stopped.error().code != ErrorCode::kNotFound) return stopped;
  std::lock_guard lock(mutex_);
  known_[unit].running = false;
  changed_.notify_all();
  return {};
}

Status Units::remove_vm(VmId vm) {
  launcher::StopRequest request{
      .unit = keeper_unit(vm), .signal = 15, .timeout_ms = 10000, .remove_vm = vm};
  return client_->stop(request, 30s);
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
