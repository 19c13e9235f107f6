#include "launcher/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <utility>

#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;

constexpr size_t kLogBytesMax = size_t{1} << 20;  // a file; the one before it is kept as .old
constexpr milliseconds kSendLimit{500};
constexpr uint64_t kNobody = 0;  // no request's id

// Rises while the host is up, through suspensions too: no bar of an earlier launcher comes again.
uint64_t uptime_ms() {
  timespec time{};
  HF_ASSERT(::clock_gettime(CLOCK_BOOTTIME, &time) == 0);
  return static_cast<uint64_t>(time.tv_sec) * 1000 +
         static_cast<uint64_t>(time.tv_nsec) / 1'000'000;
}

}  // namespace

Supervisor::Supervisor(StateTree tree, SupervisorOptions options, int stop_fd)
    : tree_(std::move(tree)),
      options_(std::move(options)),
      stop_fd_(stop_fd),
      vault_binding_(tree_.path() + "/run/vault-launcher.sock"),
      root_(::geteuid() == 0),
      empty_network_(root_ && can_empty_network()),
      first_bar_(uptime_ms()),
      daemon_watch_(options_.hang_limits) {
  cgroups_ = options_.control_groups ? SiteCgroup::open(tree_.directory_status())
                                     : SiteCgroup::none("are not wanted");
  weaknesses_ = cgroups_.missing();
  if (!cgroups_.usable() && !become_subreaper()) {
    weaknesses_.emplace_back("what a VM's process forks may outlive it");
  }
  if (root_ && !empty_network_) {
    weaknesses_.emplace_back(
        "this host forbids network namespaces: keepers and QEMU keep the host's network");
  }
  for (const std::string& weakness : weaknesses_) note(weakness);
}

Supervisor::~Supervisor() = default;

void Supervisor::note(const std::string& text) {
  std::fprintf(stderr, "holdfast-launcher: %s\n", text.c_str());
}

Status Supervisor::launch(Unit& unit) {
  unit.tail.clear();
  if (!unit.log) {
    auto log = tree_.open_log(unit.name, kLogBytesMax);
    if (log.ok()) unit.log = std::move(*log);
    unit.log_bytes = 0;
  }
  if (unit.vm && cgroups_.usable()) {
    unit.cgroup = TRY(cgroups_.make(unit.name));
    unit.spec.cgroup = unit.cgroup.directory();
    unit.spec.begins_in_cgroup = unit.cgroup.fresh();
  }
  // Before the program runs: whatever becomes of this launcher, the next one knows of it.
  auto spawned = spawn(unit.spec, [&](pid_t pid) -> Status {
    uint64_t started = TRY(start_time_of(pid));
    std::string record = std::to_string(pid) + " " + std::to_string(started) + " " +
                         std::to_string(static_cast<int>(unit.role)) + " " +
                         (unit.vm ? unit.vm->hex() : std::string("-")) + " " +
                         std::to_string(user_of(unit)) + "\n";
    return tree_.write_pid_file(unit.name, record);
  });
  if (!spawned.ok()) {
    tree_.remove_pid_file(unit.name);
    if (unit.cgroup.valid()) cgroups_.remove(unit.name);
    return spawned.error();
  }
  unit.pid = spawned->pid;
  unit.pidfd = std::move(spawned->pidfd);
  unit.stderr_pipe = std::move(spawned->stderr_pipe);
  unit.restart_at.reset();
  return {};
}

Status Supervisor::run() {
  while (stage_ != Stage::kDone) TRY(step(milliseconds(60'000)));
  remover_.stop();
  cgroups_.remove_site();
  if (fatal_) return *fatal_;
  return {};
}

Status Supervisor::step(milliseconds wait) {
  std::vector<pollfd> polled;
  polled.push_back({.fd = serves() ? stop_fd_ : -1, .events = POLLIN});
  polled.push_back({.fd = daemon_socket_ ? daemon_socket_.get() : -1, .events = POLLIN});
  polled.push_back({.fd = remover_.done_fd(), .events = POLLIN});
  // The units cannot change between building this list and walking it.
  std::vector<Unit*> order;
  for (auto& [name, unit] : units_) {
    order.push_back(&unit);
    polled.push_back({.fd = unit.pidfd ? unit.pidfd.get() : -1, .events = POLLIN});
    polled.push_back({.fd = unit.stderr_pipe ? unit.stderr_pipe.get() : -1, .events = POLLIN});
  }
  int ready = ::poll(polled.data(), polled.size(), next_timeout(wait));
  if (ready < 0 && errno != EINTR) return errno_error(errno, "wait for processes");
  if (ready > 0) {
    for (size_t i = 0; i < order.size(); ++i) {
      if (polled[4 + 2 * i].revents != 0) read_stderr(*order[i]);
      if (polled[3 + 2 * i].revents != 0) {
        if (auto exit = reap(order[i]->pidfd.get())) on_exit(*order[i], *exit);
      }
    }
    if (polled[0].revents != 0) on_stop_wanted();
    if (polled[2].revents != 0) end_removals();
    if (polled[1].revents != 0) on_daemon_message();
  }
  run_timers();
  if (stage_ != Stage::kRunning) advance_shutdown();
  forget_ended();
  return {};
}

int Supervisor::next_timeout(milliseconds wait) const {
  TimePoint at = now() + wait;
  for (const auto& [name, unit] : units_) {
    if (unit.restart_at) at = std::min(at, *unit.restart_at);
    if (unit.kill_at) at = std::min(at, *unit.kill_at);
    if (unit.empty_at) at = std::min(at, *unit.empty_at);
  }
  if (daemon_watch_.next_look()) at = std::min(at, *daemon_watch_.next_look());
  if (stage_ == Stage::kGuests) at = std::min(at, guests_until_);
  auto left = std::chrono::ceil<milliseconds>(at - now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, wait.count()));
}

// One that hangs serves nobody; guests and keepers do not need it to go on.
void Supervisor::look_at_daemon() {
  if (!daemon_watch_.next_look() || now() < *daemon_watch_.next_look()) return;
  uint64_t signs = 0;
  bool heard = ::read(daemon_alive_.get(), &signs, sizeof signs) == sizeof signs;
  if (!daemon_watch_.look(now(), heard)) return;
  auto at = units_.find("daemon");
  HF_ASSERT(at != units_.end());
  note("the daemon (process " + std::to_string(at->second.pid) + ") hangs: killed");
  daemon_watch_.end();
  if (at->second.running()) (void)send_signal(at->second.pidfd.get(), SIGKILL);
}

void Supervisor::run_timers() {
  look_at_daemon();
  for (auto& [name, unit] : units_) {
    if (unit.kill_at && now() >= *unit.kill_at) {
      unit.kill_at.reset();
      note(name + " did not end in time: killed");
      if (unit.running()) (void)send_signal(unit.pidfd.get(), SIGKILL);
    }
    if (unit.empty_at && now() >= *unit.empty_at) await_empty(unit);
    if (unit.restart_at && now() >= *unit.restart_at) restart(unit);
  }
}

void Supervisor::read_stderr(Unit& unit) {
  std::array<char, 4096> buffer{};
  // Bounded: a process that writes without end does not hold up the others.
  for (int round = 0; round < 16; ++round) {
    ssize_t got = ::read(unit.stderr_pipe.get(), buffer.data(), buffer.size());
    if (got < 0) return;  // nothing more for now
    if (got == 0) {
      unit.stderr_pipe.reset();
      return;
    }
    std::string_view text(buffer.data(), static_cast<size_t>(got));
    unit.tail.append(text);
    if (unit.log_bytes + text.size() > kLogBytesMax) {
      auto log = tree_.open_log(unit.name, 0);
      if (log.ok()) unit.log = std::move(*log);
      unit.log_bytes = 0;
    }
    unit.log_bytes += text.size();
    if (unit.log) (void)sys::write_all(unit.log.get(), as_bytes(text));
  }
}

void Supervisor::on_exit(Unit& unit, ExitStatus exit) {
  if (unit.stderr_pipe) read_stderr(unit);
  unit.stderr_pipe.reset();
  unit.pidfd.reset();
  unit.kill_at.reset();
  unit.last_exit = exit;
  unit.ended_at = now();
  await_empty(unit);
}

// What the process left behind is killed and awaited: a successor must not meet it, and who asked
// for the end of a unit is told of the end of all of it.
void Supervisor::await_empty(Unit& unit) {
  unit.empty_at.reset();
  if (left_nothing(unit)) {
    after_exit(unit);
    return;
  }
  bool soon = now() - unit.ended_at < milliseconds(1000);
  unit.empty_at = now() + milliseconds(soon ? 5 : 250);
}

bool Supervisor::left_nothing(Unit& unit) {
  if (!unit.vm) return true;
  if (unit.cgroup.valid()) {
    if (unit.cgroup.empty()) return true;
    if (Status killed = unit.cgroup.kill(); !killed.ok()) {
      note(unit.name + ": " + killed.error().describe());
    }
    return false;
  }
  if (cgroups_.usable()) return true;
  std::set<pid_t> own;
  for (const auto& [name, other] : units_) {
    if (other.running()) own.insert(other.pid);
  }
  return end_strays(own) == 0;
}

void Supervisor::after_exit(Unit& unit) {
  ExitStatus exit = unit.last_exit;
  bool core = unit.role == Role::kVault || unit.role == Role::kDaemon;
  bool again = serves() && wants_restart(unit, exit);
  if (unit.role == Role::kLink && !unit.stopping && serves()) {
    again = true;  // without it no site is reached, and nothing else is lost
  }
  if (core && !again && !unit.stopping && serves()) {
    auto failure = sys::find_start_failure(unit.tail.text());
    if (!ready_) {
      fatal_ =
          failure ? *failure : Error{.code = ErrorCode::kInternal, .cause = unit.name + " ended"};
      stage_ = Stage::kDaemon;
    } else {
      again = true;  // the guests go on; what it lacks may be mended meanwhile
    }
  }
  if (unit.role == Role::kDaemon) {
    lose_daemon();
    daemon_watch_.end();
  }
  std::string how = exit.signal != 0 ? "was ended by signal " + std::to_string(exit.signal)
                                     : "ended with status " + std::to_string(exit.status);
  if (core || unit.role == Role::kLink || exit.signal != 0 || exit.status != 0) {
    note(unit.name + " (process " + std::to_string(unit.pid) + ") " + how +
         (again ? ", restarting" : ""));
  }
  if (unit.vm) {
    announce(Event{.kind = Event::Kind::kExited,
                   .unit = unit.name,
                   .pid = unit.pid,
                   .exit_status = exit.status,
                   .signal = exit.signal,
                   .will_restart = again,
                   .stderr_tail = readable(unit.tail.text())});
  }
  if (again) {
    auto delay = unit.backoff.next_delay(now());
    unit.restart_at = now() + delay;
    if (delay.count() == 0) restart(unit);
  } else {
    finish(unit);
  }
}

void Supervisor::restart(Unit& unit) {
  unit.restart_at.reset();
  Status launched = unit.role == Role::kDaemon  ? start_daemon()
                    : unit.role == Role::kVault ? start_vault()
                                                : launch(unit);
  if (!launched.ok()) {
    note(unit.name + ": " + launched.error().describe());
    unit.restart_at = now() + unit.backoff.next_delay(now()) + options_.restart_limits.delay_first;
    return;
  }
  unit.restarts += 1;
  // The vault's too: it forgot what was released.
  if (unit.role == Role::kDaemon) {
    if (stage_ == Stage::kGuests) announce_closing();
    return;
  }
  announce(Event{.kind = Event::Kind::kStarted, .unit = unit.name, .pid = unit.pid});
}

// It will not run again: its sockets and descriptors go, whoever waits is answered.
void Supervisor::finish(Unit& unit) {
  unit.restart_at.reset();
  unlink_sockets(unit);
  unit.spec.fds.clear();
  unit.spec.cgroup = -1;
  unit.fds.clear();
  unit.directory.reset();
  if (unit.cgroup.valid()) cgroups_.remove(unit.name);
  unit.cgroup = Cgroup();
  unit.log.reset();
  unbind_keeper(unit);
  tree_.remove_pid_file(unit.name);
  some_ended_ = true;
  for (uint64_t id : std::exchange(unit.stop_waiters, {})) answer(Reply{.id = id});
  if (!unit.remove_waiters.empty()) begin_removal(*unit.vm, std::exchange(unit.remove_waiters, {}));
  answer_fences();
}

void Supervisor::unlink_sockets(Unit& unit) {
  for (const MadeSocket& socket : unit.sockets) {
    HF_ASSERT(unit.vm.has_value());
    tree_.unlink_socket(*unit.vm, socket.spec, {.device = socket.device, .inode = socket.inode});
  }
  unit.sockets.clear();
}

void Supervisor::begin_stop(Unit& unit, int signal, milliseconds limit) {
  unit.stopping = true;
  if (unit.restart_at) {
    finish(unit);
    return;
  }
  if (!unit.running()) return;
  Status sent = send_signal(unit.pidfd.get(), signal);
  if (!sent.ok()) note(unit.name + ": " + sent.error().describe());
  TimePoint at = now() + limit;
  unit.kill_at = unit.kill_at ? std::min(*unit.kill_at, at) : at;
}

// The next daemon counts its requests anew: no answer to this one's may reach it.
void Supervisor::lose_daemon() {
  daemon_socket_.reset();
  fences_.clear();
  for (auto& [name, unit] : units_) {
    unit.stop_waiters.clear();
    // The VM is to be removed all the same: the number is nobody's.
    for (uint64_t& id : unit.remove_waiters) id = kNobody;
  }
  for (auto& [vm, waiters] : removals_) waiters.clear();
}

void Supervisor::answer(const Reply& reply) {
  if (!daemon_socket_ || reply.id == kNobody) return;
  std::string text = encode(reply);
  Status sent = sys::send_message(daemon_socket_.get(), as_bytes(text), {}, kSendLimit);
  if (!sent.ok()) note("an answer to the daemon was lost: " + sent.error().describe());
}

void Supervisor::announce(const Event& event) {
  if (!daemon_socket_) return;
  std::string text = encode(event);
  Status sent = sys::send_message(daemon_socket_.get(), as_bytes(text), {}, kSendLimit);
  if (!sent.ok()) note("an event for the daemon was lost: " + sent.error().describe());
}

}  // namespace hf::launcher
