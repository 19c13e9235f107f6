// The site's own processes: vault and daemon, and what a dead launcher left behind.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <sstream>

#include "launcher/supervisor.h"
#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kQemuProgram = "/usr/bin/qemu-system-x86_64";
constexpr milliseconds kSurvivorLimit{5'000};

struct PidRecord {
  pid_t pid = 0;
  uint64_t start_time = 0;
  int role = -1;
  std::string vm;
  uid_t user = 0;
};

std::optional<PidRecord> parse_pid_record(const std::string& text) {
  std::istringstream stream(text);
  PidRecord record;
  stream >> record.pid >> record.start_time >> record.role >> record.vm >> record.user;
  if (!stream || record.pid <= 1 || record.role < 0 || record.role > static_cast<int>(Role::kLink))
    return std::nullopt;
  return record;
}

void end_survivor(const std::string& name, int pidfd) {
  std::fprintf(stderr, "holdfast-launcher: ending the %s a dead launcher left\n", name.c_str());
  (void)send_signal(pidfd, SIGTERM);
  auto gone = sys::wait_ready(pidfd, POLLIN, kSurvivorLimit);
  if (gone.ok() && *gone) return;
  (void)send_signal(pidfd, SIGKILL);
  (void)sys::wait_ready(pidfd, POLLIN, kSurvivorLimit);
}

}  // namespace

Result<Programs> installed_programs() {
  std::array<char, 4096> buffer{};
  ssize_t length = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (length <= 0) return errno_error(errno, "find the launcher's own directory");
  std::string self(buffer.data(), static_cast<size_t>(length));
  std::string directory = self.substr(0, self.find_last_of('/') + 1);
  Programs programs{.vault = directory + "holdfast-vault",
                    .daemon = directory + "holdfastd",
                    .link = directory + "holdfast-link",
                    .keeper = directory + "holdfast-keeper",
                    .qemu = std::string(kQemuProgram)};
  for (const std::string& program :
       {programs.vault, programs.daemon, programs.link, programs.keeper, programs.qemu}) {
    if (::access(program.c_str(), X_OK) != 0) {
      return Error{.code = ErrorCode::kNotFound,
                   .cause = program + " is missing or cannot be run",
                   .effect = "the site cannot start",
                   .mend = program == kQemuProgram ? "apt-get install qemu-system-x86"
                                                   : "install Holdfast again: script/bootstrap"};
    }
  }
  return programs;
}

Status Supervisor::adopt_survivors() {
  for (const auto& [name, text] : TRY(tree_.read_pid_files())) {
    auto record = parse_pid_record(text);
    if (!record) continue;
    auto pidfd = open_pidfd(record->pid);
    // After the descriptor: if the start time is right now, the descriptor is of that process.
    auto start_time = start_time_of(record->pid);
    if (!pidfd.ok() || !start_time.ok() || *start_time != record->start_time) {
      tree_.remove_pid_file(name);
      continue;
    }
    Role role = static_cast<Role>(record->role);
    if (role == Role::kVault || role == Role::kDaemon || role == Role::kLink) {
      end_survivor(name, pidfd->get());
      tree_.remove_pid_file(name);
      continue;
    }
    auto vm = VmId::parse_hex(record->vm);
    if (!vm.ok()) continue;
    // It keeps its own copies of its listening sockets and runs on; ours are gone, so a restart
    // is the daemon's decision.
    std::fprintf(stderr, "holdfast-launcher: %s (process %d) still runs\n", name.c_str(),
                 static_cast<int>(record->pid));
    Unit unit;
    unit.name = name;
    unit.role = role;
    unit.vm = *vm;
    unit.spec.change_user = tree_.users().uid_base != 0;
    unit.spec.user = record->user;
    unit.pid = record->pid;
    unit.pidfd = std::move(*pidfd);
    if (cgroups_.usable()) {
      if (auto group = cgroups_.find(name); group.ok()) unit.cgroup = std::move(*group);
    }
    units_.emplace(name, std::move(unit));
  }
  return {};
}

Unit Supervisor::make_core_unit(std::string name, Role role) {
  Unit unit;
  unit.name = std::move(name);
  unit.role = role;
  unit.restart = RestartPolicy::kAlways;
  unit.backoff = Backoff(options_.restart_limits);
  set_users(unit.spec, role, 0);
  return unit;
}

// Also restarts it: its listener stays, its socket to us is new.
Status Supervisor::start_daemon() {
  TRY(tree_.check_catalog());
  if (!api_listener_) {
    api_listener_ = TRY(tree_.listen_core("api.sock", tree_.users().daemon(), 0660, SOCK_STREAM,
                                          options_.operators));
  }
  sys::SocketPair pair = TRY(sys::socket_pair(sys::SocketType::kSeqPacket));
  sys::UniqueFd alive(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!alive) return errno_error(errno, "make an event descriptor");
  auto at = units_.find("daemon");
  if (at == units_.end()) {
    at = units_.emplace("daemon", make_core_unit("daemon", Role::kDaemon)).first;
  }
  Unit& unit = at->second;
  unit.spec.program = options_.programs.daemon;
  unit.spec.argv = {"holdfastd", "--state", tree_.path()};
  if (options_.operators && tree_.users().uid_base != 0) {
    unit.spec.argv.insert(unit.spec.argv.end(),
                          {"--operators-gid", std::to_string(*options_.operators)});
  }
  unit.spec.fds = {{.name = "api", .fd = api_listener_.get()},
                   {.name = "launcher", .fd = pair.second.get()},
                   {.name = "alive", .fd = alive.get()}};
  TRY(launch(unit));
  daemon_alive_ = std::move(alive);
  daemon_watch_.begin(std::chrono::steady_clock::now());
  daemon_socket_ = std::move(pair.first);
  return {};
}

Status Supervisor::start_core() {
  TRY(tree_.prepare());
  TRY(tree_.check_catalog());
  TRY(adopt_survivors());
  TRY(start_vault());
  TRY(start_link());
  return start_daemon();
}

StartPlace Supervisor::place() const {
  return {.state = tree_.path(), .site = tree_.site().site_id};
}

Result<sys::UniqueFd> Supervisor::connect_as_daemon() {
  TRY(tree_.prepare());
  TRY(adopt_survivors());
  sys::SocketPair pair = TRY(sys::socket_pair(sys::SocketType::kSeqPacket));
  daemon_socket_ = std::move(pair.first);
  return std::move(pair.second);
}

}  // namespace hf::launcher
