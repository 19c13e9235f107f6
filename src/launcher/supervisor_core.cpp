// The site's own processes: vault and daemon, and what a dead launcher left behind.
#include <poll.h>
#include <signal.h>
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
};

std::optional<PidRecord> parse_pid_record(const std::string& text) {
  std::istringstream stream(text);
  PidRecord record;
  stream >> record.pid >> record.start_time >> record.role >> record.vm;
  if (!stream || record.pid <= 1 || record.role < 0 || record.role > 3) return std::nullopt;
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
                    .keeper = directory + "holdfast-keeper",
                    .qemu = std::string(kQemuProgram)};
  for (const std::string& program :
       {programs.vault, programs.daemon, programs.keeper, programs.qemu}) {
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
    if (role == Role::kVault || role == Role::kDaemon) {
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
    unit.pid = record->pid;
    unit.pidfd = std::move(*pidfd);
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

Status Supervisor::start_vault() {
  const Users& users = tree_.users();
  Unit unit = make_core_unit("vault", Role::kVault);
  unit.spec.program = options_.programs.vault;
  unit.spec.argv = {"holdfast-vault", "--dir", tree_.path() + "/vault", "--admin-uid",
                    std::to_string(users.daemon())};
  if (!tree_.site().vault_secret_file.empty()) {
    unit.spec.argv.insert(unit.spec.argv.end(), {"--secret-file", tree_.site().vault_secret_file});
  }
  unit.spec.empty_network = empty_network_;
  // Keepers of every VM connect to vault-keys: the vault looks at who asks.
  unit.fds.push_back(TRY(tree_.listen_core("vault-admin.sock", users.daemon(), 0600)));
  unit.fds.push_back(TRY(tree_.listen_core("vault-keys.sock", users.vault(), 0666)));
  unit.spec.fds = {{.name = "vault-admin", .fd = unit.fds[0].get()},
                   {.name = "vault-keys", .fd = unit.fds[1].get()}};
  TRY(launch(unit));
  units_.emplace("vault", std::move(unit));
  return {};
}

// Also restarts it: its listener stays, its socket to us is new.
Status Supervisor::start_daemon() {
  if (!api_listener_) {
    api_listener_ = TRY(tree_.listen_core("api.sock", tree_.users().daemon(), 0660));
  }
  sys::SocketPair pair = TRY(sys::socket_pair(sys::SocketType::kSeqPacket));
  auto at = units_.find("daemon");
  if (at == units_.end()) {
    at = units_.emplace("daemon", make_core_unit("daemon", Role::kDaemon)).first;
  }
  Unit& unit = at->second;
  unit.spec.program = options_.programs.daemon;
  unit.spec.argv = {"holdfastd", "--state", tree_.path()};
  unit.spec.fds = {{.name = "api", .fd = api_listener_.get()},
                   {.name = "launcher", .fd = pair.second.get()}};
  TRY(launch(unit));
  daemon_socket_ = std::move(pair.first);
  return {};
}

Status Supervisor::start_core() {
  TRY(tree_.prepare());
  TRY(adopt_survivors());
  TRY(start_vault());
  return start_daemon();
}

Result<sys::UniqueFd> Supervisor::connect_as_daemon() {
  TRY(tree_.prepare());
  TRY(adopt_survivors());
  sys::SocketPair pair = TRY(sys::socket_pair(sys::SocketType::kSeqPacket));
  daemon_socket_ = std::move(pair.first);
  return std::move(pair.second);
}

}  // namespace hf::launcher
