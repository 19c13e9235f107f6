#include "launcher/process/process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace hf::launcher {
namespace {

constexpr int kFirstFd = 3;
constexpr int kHighFd = 512;  // sources go above it before the targets from 3 on are filled

// What the child tells about a failed step, through a pipe that exec closes.
struct StepFailure {
  int step;
  int error_number;
};
constexpr std::array kSteps = {
    "make a session",      "enter the control group", "empty the network",
    "enter its directory", "arrange descriptors",     "set limits",
    "change the group",    "change the user",         "forbid privileges",
    "load the filter",     "run the program",
};
enum Step : int {
  kSession,
  kControlGroup,
  kNetwork,
  kDirectory,
  kDescriptors,
  kLimits,
  kGroup,
  kUser,
  kPrivileges,
  kFilter,
  kExec
};

// All the child needs, made before the fork.
struct Prepared {
  const ProcessSpec& spec;
  std::vector<char*> argv;
  std::vector<char*> environment;
  std::array<char, 32> listen_pid{};
  int null_fd;
  int stderr_fd;
  int report_fd;
  int go_read_fd;   // a byte on it: go on; its end: the parent has gone
  int go_write_fd;  // the parent's end
  bool in_cgroup = false;
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

[[noreturn]] void fail(int report_fd, Step step) {
  StepFailure failure{.step = step, .error_number = errno};
  (void)!::write(report_fd, &failure, sizeof failure);
  ::_exit(127);
}

void default_signals() {
  for (int signal = 1; signal < 32; ++signal) {
    struct sigaction action{};
    action.sa_handler = signal == SIGPIPE ? SIG_IGN : SIG_DFL;
    (void)::sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  ::sigemptyset(&none);
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Returns the report pipe's new number.
int arrange_descriptors(const Prepared& prepared) {
  int count = static_cast<int>(prepared.spec.fds.size());
  int report = ::fcntl(prepared.report_fd, F_DUPFD_CLOEXEC, kHighFd);
  if (report < 0) fail(prepared.report_fd, kDescriptors);
  std::array<int, 256> high{};
  for (int i = 0; i < count; ++i) {
    high[static_cast<size_t>(i)] =
        ::fcntl(prepared.spec.fds[static_cast<size_t>(i)].fd, F_DUPFD_CLOEXEC, kHighFd);
    if (high[static_cast<size_t>(i)] < 0) fail(report, kDescriptors);
  }
  if (::dup2(prepared.null_fd, 0) < 0 || ::dup2(prepared.null_fd, 1) < 0 ||
      ::dup2(prepared.stderr_fd, 2) < 0) {
    fail(report, kDescriptors);
  }
  for (int i = 0; i < count; ++i) {
    if (::dup2(high[static_cast<size_t>(i)], kFirstFd + i) < 0) fail(report, kDescriptors);
  }
  int last = kFirstFd + count;
  if (::dup3(report, last, O_CLOEXEC) < 0) fail(report, kDescriptors);
  if (::syscall(SYS_close_range, last + 1, ~0U, 0) != 0) fail(last, kDescriptors);
  return last;
}

void set_limits(const ProcessSpec& spec, int report) {
  rlimit none{.rlim_cur = 0, .rlim_max = 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) fail(report, kLimits);
  if (spec.lock_memory) {
    // Not in every container; the keeper and the vault then say what they cannot lock.
    rlimit all{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    (void)::setrlimit(RLIMIT_MEMLOCK, &all);
  }
}

void change_user(const ProcessSpec& spec, int report) {
  if (!spec.change_user) return;
  gid_t extra = spec.extra_group.value_or(spec.group);
  if (::setgroups(spec.extra_group ? 1 : 0, &extra) != 0) fail(report, kGroup);
  if (::setresgid(spec.group, spec.group, spec.group) != 0) fail(report, kGroup);
  if (::setresuid(spec.user, spec.user, spec.user) != 0) fail(report, kUser);
}

bool enter(int cgroup) {
  if (cgroup < 0) return true;
  int procs = ::openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
  return procs >= 0 && ::write(procs, "0", 1) == 1;
}

// Begins it in its group (since Linux 5.7): a process that enters one later waits for the kernel's
// grace period first, some 15 ms of a guest's wait for its disk.
pid_t fork_into(Prepared& prepared) {
  if (prepared.spec.cgroup >= 0 && prepared.spec.begins_in_cgroup) {
    clone_args arguments{};
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = SIGCHLD;
    arguments.cgroup = static_cast<uint64_t>(prepared.spec.cgroup);
    prepared.in_cgroup = true;
    long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid >= 0) return static_cast<pid_t>(pid);
    prepared.in_cgroup = false;
  }
  return ::fork();
}

[[noreturn]] void become(Prepared& prepared) {
  const ProcessSpec& spec = prepared.spec;
  default_signals();
  ::umask(077);
  ::close(prepared.go_write_fd);
  char go = 0;
  ssize_t told;
  do {
    told = ::read(prepared.go_read_fd, &go, 1);
  } while (told < 0 && errno == EINTR);
  if (told != 1) ::_exit(127);
  if (::setsid() < 0) fail(prepared.report_fd, kSession);
  if (!prepared.in_cgroup && !enter(spec.cgroup)) fail(prepared.report_fd, kControlGroup);
  if (spec.empty_network && ::unshare(CLONE_NEWNET) != 0) fail(prepared.report_fd, kNetwork);
  if ((spec.directory < 0 ? ::chdir("/") : ::fchdir(spec.directory)) != 0)
    fail(prepared.report_fd, kDirectory);
  int report = arrange_descriptors(prepared);
  set_limits(spec, report);
  change_user(spec, report);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(report, kPrivileges);
  (void)::snprintf(prepared.listen_pid.data(), prepared.listen_pid.size(), "LISTEN_PID=%d",
                   static_cast<int>(::getpid()));
  if (spec.filter && !spec.filter->load()) fail(report, kFilter);
  ::execve(spec.program.c_str(), prepared.argv.data(), prepared.environment.data());
  fail(report, kExec);
}

Result<std::pair<sys::UniqueFd, sys::UniqueFd>> make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return errno_error(errno, "make a pipe");
  return std::pair(sys::UniqueFd(fds[0]), sys::UniqueFd(fds[1]));
}

// Waits for exec, or for the report of the step that failed.
Status await_exec(int report_fd, const std::string& program) {
  StepFailure failure{};
  ssize_t got;
  do {
    got = ::read(report_fd, &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return {};
  if (got != sizeof failure) return errno_error(EIO, "start " + program);
  HF_ASSERT(failure.step >= 0 && static_cast<size_t>(failure.step) < kSteps.size());
  return errno_error(failure.error_number,
                     "start " + program + ": " + kSteps[static_cast<size_t>(failure.step)]);
}

}  // namespace

Result<Process> spawn(const ProcessSpec& spec, const BeforeExec& before_exec) {
  HF_ASSERT(spec.program.starts_with('/') && !spec.argv.empty());
  if (spec.fds.size() > 200) {
    return Error{.code = ErrorCode::kLimit, .cause = "more than 200 descriptors for one process"};
  }
  auto [stderr_read, stderr_write] = TRY(make_pipe());
  auto [report_read, report_write] = TRY(make_pipe());
  auto [go_read, go_write] = TRY(make_pipe());
  sys::UniqueFd null_fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_fd) return errno_error(errno, "open /dev/null");
  std::string fd_count = "LISTEN_FDS=" + std::to_string(spec.fds.size());
  std::string fd_names = "LISTEN_FDNAMES=";
  for (const NamedFd& fd : spec.fds) {
    if (fd_names.back() != '=') fd_names += ':';
    fd_names += fd.name;
  }
  Prepared prepared{.spec = spec,
                    .argv = pointers(spec.argv),
                    .environment = pointers(spec.environment),
                    .null_fd = null_fd.get(),
                    .stderr_fd = stderr_write.get(),
                    .report_fd = report_write.get(),
                    .go_read_fd = go_read.get(),
                    .go_write_fd = go_write.get()};
  prepared.environment.pop_back();
  prepared.environment.push_back(fd_count.data());
  prepared.environment.push_back(fd_names.data());
  prepared.environment.push_back(prepared.listen_pid.data());
  prepared.environment.push_back(nullptr);
  pid_t pid = fork_into(prepared);
  if (pid < 0) return errno_error(errno, "start " + spec.program);
  if (pid == 0) become(prepared);
  report_write.reset();
  stderr_write.reset();
  Process process{.pid = pid, .pidfd = {}, .stderr_pipe = std::move(stderr_read)};
  auto pidfd = open_pidfd(pid);
  Status started = before_exec ? before_exec(pid) : Status();
  if (started.ok()) started = sys::write_all(go_write.get(), as_bytes("g"));
  go_write.reset();
  if (started.ok()) started = await_exec(report_read.get(), spec.program);
  if (!started.ok() || !pidfd.ok()) {
    (void)::kill(pid, SIGKILL);
    (void)::waitpid(pid, nullptr, 0);
    return !started.ok() ? started.error() : pidfd.error();
  }
  process.pidfd = std::move(*pidfd);
  TRY(sys::set_nonblocking(process.stderr_pipe.get(), true));
  return process;
}

std::optional<ExitStatus> reap(int pidfd) {
  pollfd poller{.fd = pidfd, .events = POLLIN, .revents = 0};
  if (::poll(&poller, 1, 0) != 1) return std::nullopt;
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED) != 0) return ExitStatus{-1, 0};
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, 0};
  return ExitStatus{0, info.si_status};
}

Status send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0 || errno == ESRCH) return {};
  return errno_error(errno, "send a signal");
}

Result<uint64_t> start_time_of(pid_t pid) {
  sys::UniqueFd fd(
      ::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "look at process " + std::to_string(pid));
  std::array<char, 1024> buffer{};
  ssize_t length = ::read(fd.get(), buffer.data(), buffer.size());
  std::string_view text(buffer.data(), length > 0 ? static_cast<size_t>(length) : 0);
  // The name in parentheses may hold anything; fields are counted from behind it (field 2).
  size_t at = text.rfind(')');
  for (int field = 2; field < 22 && at != std::string_view::npos; ++field) {
    at = text.find(' ', at + 1);
  }
  uint64_t value = 0;
  if (at != std::string_view::npos) {
    std::from_chars(text.data() + at + 1, text.data() + text.size(), value);
  }
  if (value == 0) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "process " + std::to_string(pid) + " has gone"};
  }
  return value;
}

Result<sys::UniqueFd> open_pidfd(pid_t pid) {
  long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return errno_error(errno, "watch process " + std::to_string(pid));
  return sys::UniqueFd(static_cast<int>(fd));
}

bool become_subreaper() { return ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0; }

size_t end_strays(const std::set<pid_t>& own) {
  size_t left = 0;
  std::error_code failed;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", failed)) {
    std::ifstream children(task.path() / "children");
    for (pid_t pid = 0; children >> pid;) {
      if (own.contains(pid)) continue;
      (void)::kill(pid, SIGKILL);
      if (::waitpid(pid, nullptr, WNOHANG) != pid) left += 1;
    }
  }
  return left;
}

bool can_empty_network() {
  pid_t pid = ::fork();
  if (pid < 0) return false;
  if (pid == 0) ::_exit(::unshare(CLONE_NEWNET) == 0 ? 0 : 1);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace hf::launcher
