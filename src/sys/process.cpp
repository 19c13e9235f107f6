#include "sys/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "sys/json.h"

namespace hf::sys {

Status harden_process() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    return errno_error(errno, "make the process undumpable");
  rlimit none{};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return errno_error(errno, "forbid core files");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return errno_error(errno, "give up new privileges");
  if (::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return errno_error(errno, "ignore SIGPIPE");
  ::umask(077);
  return {};
}

Status drop_inherited_descriptors() {
  if (::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) != 0)
    return errno_error(errno, "close what was inherited");
  // The lowest free number is taken each time.
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd < 0) return errno_error(errno, "open /dev/null");
    if (fd <= STDERR_FILENO) continue;
    ::close(fd);
    return {};
  }
}

std::string root_command(const std::string& command) {
  return (::geteuid() == 0 ? "" : "sudo ") + command;
}

std::string startup_error_line(const Error& error) {
  JsonObject line;
  line["error"] = error_to_json(error);
  return to_text(line);
}

}  // namespace hf::sys
