// `site start`, `site stop` and `site restart`: the launcher as a background process.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <thread>

#include "cli/core/follow.h"
#include "cli/core/launcher.h"
#include "cli/core/programs.h"
#include "cli/site.h"
#include "sys/fd.h"

namespace hf::cli {
namespace {

using namespace std::chrono_literals;

[[noreturn]] void exec_launcher(const std::string& path, const std::string& state) {
  std::string flag = "--state";
  std::string foreground = "--foreground";
  char* argv[] = {const_cast<char*>(path.c_str()), flag.data(), const_cast<char*>(state.c_str()),
                  foreground.data(), nullptr};
  ::execv(path.c_str(), argv);
  ::_exit(127);
}

// For those commands that end it.
Result<pid_t> launcher_to_end(const std::string& state, std::string_view verb) {
  Result<pid_t> launcher = running_launcher(state);
  if (launcher.ok()) return launcher;
  Error error = std::move(launcher).error();
  if (error.code == ErrorCode::kPermission)
    error.mend =
        fmt::format("run the command as root: sudo holdfast --state {} site {}", state, verb);
  error.effect = "nothing was stopped";
  return error;
}

Status may_signal(pid_t launcher) {
  if (::kill(launcher, 0) == 0) return {};
  return errno_error(errno, "reach the launcher")
      .with_effect("the site and its VMs run on")
      .with_mend("run the command as root");
}

// Until it has ended.
Status end_launcher(const std::string& state, pid_t launcher, int signal) {
  if (::kill(launcher, signal) != 0) {
    return errno_error(errno, "stop the launcher")
        .with_effect("the site still runs")
        .with_mend("run the command as root");
  }
  auto end = std::chrono::steady_clock::now() + 3min;
  while (std::chrono::steady_clock::now() < end) {
    if (!running_launcher(state).ok()) return {};
    std::this_thread::sleep_for(20ms);
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = "the launcher (process " + std::to_string(launcher) +
                        ") did not end within 3 minutes",
               .effect = "parts of the site still run",
               .mend = "look at " + state + "/run/log/launcher.log"};
}

}  // namespace

Status site_start(const Context& context, bool foreground) {
  std::string state = std::filesystem::absolute(context.state).lexically_normal().string();
  if (foreground) exec_launcher(program_path("holdfast-launcher"), state);
  Finished launcher =
      TRY(run_program({program_path("holdfast-launcher"), "--state", state}, ::geteuid()));
  if (launcher.status != 0) {
    if (std::optional<Error> said = sys::find_start_failure(launcher.errors)) return *said;
    return Error{.code = ErrorCode::kInternal,
                 .cause = fmt::format("the launcher ended with status {}: {}", launcher.status,
                                      launcher.errors.substr(0, 500)),
                 .effect = "the site does not run",
                 .mend = "start it in the foreground to see more: holdfast --state " + state +
                         " site start --foreground"};
  }
  if (!context.quiet) std::fputs(launcher.errors.c_str(), stderr);
  sys::JsonValue site = TRY(context.client().get("/v1/site"));
  if (site.is_object()) print_object(context, site.as_object());
  return {};
}

Status site_stop(const Context& context, const SiteStopOptions& options) {
  std::string state = std::filesystem::absolute(context.state).lexically_normal().string();
  pid_t launcher = TRY(launcher_to_end(state, "stop"));
  TRY(may_signal(launcher));
  if (!options.force) {
    Client client = context.client();
    const sys::JsonValue job =
        TRY(client.post("/v1/site/stop-guests", {{"timeout_seconds", options.timeout_seconds}}));
    TRY(follow_job(context, client, job));
  }
  TRY(end_launcher(state, launcher, options.force ? SIGQUIT : SIGTERM));
  print_object(context, {{"stopped", true}});
  return {};
}

Status site_restart(const Context& context) {
  std::string state = std::filesystem::absolute(context.state).lexically_normal().string();
  pid_t launcher = TRY(launcher_to_end(state, "restart"));
  TRY(may_signal(launcher));
  TRY(end_launcher(state, launcher, SIGUSR1));
  return site_start(context, false);
}

}  // namespace hf::cli
