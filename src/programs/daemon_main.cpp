// holdfastd --state DIR: started by the launcher with the descriptors "api" and "launcher".
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "control/api/api.h"
#include "control/core/log.h"
#include "control/host/accelerator.h"
#include "control/http/http_server.h"
#include "sys/inherited_fds.h"
#include "sys/process.h"

namespace hf::control {
namespace {

struct Arguments {
  std::string state;
  std::vector<gid_t> operators;  // groups of the host
};

Result<Arguments> parse_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    const std::string_view value = argv[i + 1];
    gid_t group = 0;
    const auto parsed = std::from_chars(value.begin(), value.end(), group);
    if (flag == "--state") {
      arguments.state = value;
    } else if (flag == "--operators-gid" && parsed.ec == std::errc() && parsed.ptr == value.end() &&
               group != 0) {
      arguments.operators.push_back(group);
    } else {
      arguments.state.clear();
      break;
    }
  }
  if (argc % 2 == 1 && !arguments.state.empty()) return arguments;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "holdfastd takes --state DIR and --operators-gid GROUP, and nothing else",
               .effect = "holdfastd does not start",
               .mend = "start the site with: holdfast site start"};
}

// What is in there is nobody else's business: peers' replicas, the TLS key, the catalog.
Status check_own_directory(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return errno_error(errno, "look at " + path);
  if (info.st_uid == ::geteuid() && (info.st_mode & 077) == 0) return {};
  return Error{.code = ErrorCode::kPermission,
               .cause = path + " belongs to another user or can be read by others",
               .effect = "holdfastd does not start",
               .mend = sys::root_command("chown " + std::to_string(::geteuid()) + " " + path) +
                       " && " + sys::root_command("chmod 0700 " + path)};
}

Result<launcher::SiteConfig> read_site(const Paths& paths) {
  sys::UniqueFd file(::open(paths.site_config().c_str(), O_RDONLY | O_CLOEXEC));
  if (!file)
    return errno_error(errno, "open " + paths.site_config()).with_mend("holdfast site init");
  return launcher::parse_site_config(as_text(TRY(sys::read_all(file.get(), 65536))));
}

// SIGTERM and SIGINT, on a thread of its own; blocked everywhere else.
std::thread watch_signals(HttpServer& server) {
  return std::thread([&server] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int signal = 0;
    sigwait(&set, &signal);
    server.stop();
  });
}

// Who waits for a job or an event holds a connection. Best effort: the hard limit is what it is.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 16384);
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
}

void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

Status run(int argc, char** argv) {
  const Arguments arguments = TRY(parse_arguments(argc, argv));
  Paths paths{.state = arguments.state};
  TRY(sys::harden_process());
  block_signals();
  raise_descriptor_limit();
  sys::InheritedFds inherited = TRY(sys::take_inherited_fds());
  sys::UniqueFd api = TRY(inherited.take("api"));
  sys::UniqueFd launcher = TRY(inherited.take("launcher"));
  sys::UniqueFd alive = TRY(inherited.take("alive"));
  TRY(check_own_directory(paths.own()));
  Services services(paths, TRY(read_site(paths)));
  Router router = make_router(services);
  HttpServer server(std::move(api), router,
                    {.owner_uids = {0, ::geteuid()},
                     .owner_gids = arguments.operators,
                     .on_stranger = [&services](const By& by, const Error& error) {
                       services.limited_events->tell(Often::kStranger,
                                                     {.severity = Severity::kWarning,
                                                      .kind = "request.refused",
                                                      .subject = kTheSite,
                                                      .text = error.cause,
                                                      .by = by});
                     }});
  services.on_launcher_lost = [&server] {
    log_warning("the launcher has gone; guests go on, holdfastd ends");
    server.stop();
  };
  TRY(services.start(std::move(launcher)));
  std::thread signals = watch_signals(server);
  std::thread probing([] { static_cast<void>(kvm_probe()); });
  // Whoever stops doing this for three seconds is started anew (launcher/hang_watch.h).
  server.every(std::chrono::seconds(1), [&alive] {
    uint64_t one = 1;
    (void)!::write(alive.get(), &one, sizeof one);
  });
  log_info("site " + services.site.name + " serves");
  server.run();
  ::kill(::getpid(), SIGTERM);  // for the thread that waits for one
  signals.join();
  probing.join();
  services.stop();
  return {};
}

}  // namespace
}  // namespace hf::control

int main(int argc, char** argv) {
  hf::control::log_start();
  hf::Status status = hf::control::run(argc, argv);
  if (status.ok()) return 0;
  hf::Error error = status.error();
  if (error.effect.empty()) error.effect = "holdfastd does not start";
  if (error.mend.empty()) error.mend = "put right what is named, then: holdfast site start";
  std::fputs(hf::sys::start_failure_line(error).c_str(), stderr);
  return 1;
}
