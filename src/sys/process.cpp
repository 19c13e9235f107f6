#include "sys/process.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

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

std::string startup_error_line(const Error& error) {
  JsonObject line;
  line["error"] = error_to_json(error);
  return to_text(line);
}

}  // namespace hf::sys
