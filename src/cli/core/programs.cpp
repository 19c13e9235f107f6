#include "cli/core/programs.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>

#include "sys/fd.h"

namespace hf::cli {
namespace {

constexpr size_t kOutputMax = size_t{256} << 10;

struct Pipe {
  sys::UniqueFd read;
  sys::UniqueFd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error(errno, "make a pipe");
  Pipe pipe;
  pipe.read.reset(ends[0]);
  pipe.write.reset(ends[1]);
  return pipe;
}

[[noreturn]] void become(const std::vector<std::string>& argv, uid_t user, int out, int err) {
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  // What this program inherited is not the other one's.
  ::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
  if (user != ::geteuid()) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(user, user, user) != 0 ||
        ::setresuid(user, user, user) != 0) {
      ::_exit(126);
    }
  }
  std::vector<char*> raw;
  for (const std::string& argument : argv) raw.push_back(const_cast<char*>(argument.c_str()));
  raw.push_back(nullptr);
  ::execv(raw[0], raw.data());
  ::_exit(127);
}

// Reads both until both are closed.
Status collect(Pipe& out, Pipe& err, Finished& into) {
  auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  pollfd waits[2] = {{out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0}};
  std::string* sinks[2] = {&into.output, &into.errors};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                    end - std::chrono::steady_clock::now())
                    .count();
    if (left <= 0)
      return Error{.code = ErrorCode::kTimeout, .cause = "the program did not end within a minute"};
    if (::poll(waits, 2, static_cast<int>(left)) < 0 && errno != EINTR)
      return errno_error(errno, "wait for a program");
    for (int i = 0; i < 2; ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      char buffer[4096];
      ssize_t got = ::read(waits[i].fd, buffer, sizeof buffer);
      if (got <= 0) {
        waits[i].fd = -1;
      } else if (sinks[i]->size() < kOutputMax) {
        sinks[i]->append(buffer, static_cast<size_t>(got));
      }
    }
  }
  return {};
}

}  // namespace

std::string program_path(std::string_view name) {
  char self[PATH_MAX] = {};
  ssize_t size = ::readlink("/proc/self/exe", self, sizeof self - 1);
  std::string path(self, size > 0 ? static_cast<size_t>(size) : 0);
  return path.substr(0, path.rfind('/') + 1) + std::string(name);
}

Result<Finished> run_program(const std::vector<std::string>& argv, uid_t user) {
  Pipe out = TRY(make_pipe());
  Pipe err = TRY(make_pipe());
  pid_t child = ::fork();
  if (child < 0) return errno_error(errno, "start " + argv[0]);
  if (child == 0) become(argv, user, out.write.get(), err.write.get());
  out.write.reset();
  err.write.reset();
  Finished finished;
  Status collected = collect(out, err, finished);
  if (!collected.ok()) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  TRY(std::move(collected));
  finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (finished.status == 127) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = argv[0] + " could not be run",
                 .effect = "nothing was done",
                 .mend =
                     "reinstall Holdfast: its programs lie in one directory, which the site's "
                     "users must be able to reach (chmod o+x on it and all above it)"};
  }
  return finished;
}

}  // namespace hf::cli
