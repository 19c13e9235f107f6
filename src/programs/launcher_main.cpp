// holdfast-launcher --state DIR [--foreground]
//
// The only part that may run as root. It starts the site and stays until it is told to end; in the
// background, unless told otherwise, once the daemon serves.
//
//   SIGTERM, SIGINT, SIGHUP   the guests are asked to shut down, then the site is stopped
//   SIGQUIT                   their power is cut
//   SIGUSR1                   they run on, for the next launcher
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "launcher/supervisor.h"
#include "launcher/tree/site_registry.h"
#include "sys/bounded_io.h"
#include "sys/process.h"

namespace hf::launcher {
namespace {

constexpr std::string_view kDefaultState = "/var/lib/holdfast";
constexpr std::chrono::milliseconds kReadyLimit{60'000};
constexpr std::string_view kReadyWord = "ready";

struct Arguments {
  std::string state;
  bool foreground = false;
};

Error usage(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = std::move(cause),
               .effect = "nothing was started",
               .mend = "holdfast-launcher --state DIR [--foreground]"};
}

Result<Arguments> parse_arguments(int count, char** values) {
  Arguments arguments;
  const char* from_environment = std::getenv("HOLDFAST_STATE");
  arguments.state = from_environment != nullptr ? from_environment : std::string(kDefaultState);
  for (int i = 1; i < count; ++i) {
    std::string_view argument = values[i];
    if (argument == "--foreground") {
      arguments.foreground = true;
    } else if (argument == "--state" && i + 1 < count) {
      arguments.state = values[++i];
    } else {
      return usage("cannot use the argument \"" + std::string(argument) + "\"");
    }
  }
  return arguments;
}

// For a person; where no person looks, also the line that programs read.
void report(const Error& error) {
  std::fprintf(stderr, "holdfast-launcher: %s\n", error.cause.c_str());
  if (!error.effect.empty()) std::fprintf(stderr, "  effect: %s\n", error.effect.c_str());
  if (!error.mend.empty()) std::fprintf(stderr, "  mend:   %s\n", error.mend.c_str());
  if (::isatty(2) == 0) std::fputs(sys::start_failure_line(error).c_str(), stderr);
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<sys::UniqueFd> make_stop_fd() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1}) ::sigaddset(&signals, signal);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return errno_error(errno, "block signals");
  sys::UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd) return errno_error(errno, "watch signals");
  (void)::signal(SIGPIPE, SIG_IGN);
  return fd;
}

StopKind read_stop_kind(int stop_fd) {
  signalfd_siginfo signal{};
  if (::read(stop_fd, &signal, sizeof signal) != sizeof signal) return StopKind::kGuestsFirst;
  if (signal.ssi_signo == SIGQUIT) return StopKind::kPowerOff;
  return signal.ssi_signo == SIGUSR1 ? StopKind::kLeaveGuests : StopKind::kGuestsFirst;
}

void warn_about_users(const Users& users) {
  if (users.uid_base != 0) return;
  std::fprintf(stderr,
               "holdfast-launcher: warning: the site has one user for everything (uid_base 0): a "
               "broken keeper or QEMU could reach other VMs' state and the vault's files\n");
}

Status claim(const StateTree& tree) {
  Status claimed = claim_users(tree.site(), tree.path(), SiteRegistry::of_host());
  if (claimed.ok() || claimed.error().code == ErrorCode::kConflict) return claimed;
  // Another site's operator will not be warned; this one has what it needs.
  std::fprintf(stderr, "holdfast-launcher: warning: %s\n", claimed.error().cause.c_str());
  return {};
}

Status serve(const Arguments& arguments, int ready_fd) {
  sys::UniqueFd stop_fd = TRY(make_stop_fd());
  raise_descriptor_limit();
  StateTree tree = TRY(StateTree::open(arguments.state));
  TRY(claim(tree));
  Programs programs = TRY(installed_programs());
  warn_about_users(tree.users());
  sys::UniqueFd lock = TRY(tree.lock());
  TRY(tree.prepare());
  sys::UniqueFd log = TRY(tree.open_log("launcher", size_t{1} << 20));
  Supervisor supervisor(std::move(tree),
                        {.programs = std::move(programs),
                         .operators = operators_group(),
                         .stop_kind = [fd = stop_fd.get()] { return read_stop_kind(fd); }},
                        stop_fd.get());
  supervisor.set_on_ready([&] {
    if (ready_fd < 0) return;
    (void)sys::write_all(ready_fd, as_bytes(kReadyWord));
    ::close(ready_fd);
    ready_fd = -1;
    (void)::dup2(log.get(), 2);
  });
  TRY(supervisor.start_core());
  return supervisor.run();
}

// The half that the shell waits for: until the other half serves or says why not.
int await_background(int ready_fd, const std::string& state) {
  std::array<char, 64> buffer{};
  auto ready = sys::wait_ready(ready_fd, POLLIN, kReadyLimit);
  if (!ready.ok() || !*ready) {
    report(Error{.code = ErrorCode::kTimeout,
                 .cause = "the daemon did not serve within 60 s",
                 .effect = "the launcher goes on trying in the background",
                 .mend = "holdfast --state " + state +
                         " site show says when it does; why it does not, " + state +
                         "/run/log/daemon.log and launcher.log say"});
    return 1;
  }
  ssize_t got = ::read(ready_fd, buffer.data(), buffer.size());
  bool word = got > 0 && std::string_view(buffer.data(), static_cast<size_t>(got)) == kReadyWord;
  return word ? 0 : 1;
}

int run_background(const Arguments& arguments) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) {
    report(errno_error(errno, "make a pipe"));
    return 1;
  }
  pid_t child = ::fork();
  if (child < 0) {
    report(errno_error(errno, "go to the background"));
    return 1;
  }
  if (child > 0) {
    ::close(pipe[1]);
    return await_background(pipe[0], arguments.state);
  }
  ::close(pipe[0]);
  (void)::setsid();
  sys::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  (void)::dup2(null.get(), 0);
  (void)::dup2(null.get(), 1);
  Status served = serve(arguments, pipe[1]);
  if (!served.ok()) report(served.error());
  return served.ok() ? 0 : 1;
}

int run(int count, char** values) {
  if (Status dropped = sys::drop_inherited_descriptors(); !dropped.ok()) {
    report(std::move(dropped).error().with_effect("nothing was started"));
    return 1;
  }
  auto arguments = parse_arguments(count, values);
  if (!arguments.ok()) {
    report(arguments.error());
    return 2;
  }
  if (!arguments->foreground) return run_background(*arguments);
  Status served = serve(*arguments, -1);
  if (!served.ok()) report(served.error());
  return served.ok() ? 0 : 1;
}

}  // namespace
}  // namespace hf::launcher

int main(int argc, char** argv) { return hf::launcher::run(argc, argv); }
