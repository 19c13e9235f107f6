// What every long-lived process does to itself at its start, and how it reports that it cannot
// start.
#pragma once

#include <string>

#include "base/error.h"
#include "base/result.h"

namespace hf::sys {

// PR_SET_DUMPABLE 0 (no core, no ptrace or /proc/PID/mem by the same user), RLIMIT_CORE 0,
// PR_SET_NO_NEW_PRIVS, SIGPIPE ignored, umask 077.
Status harden_process();

// The launcher reads the last line of stderr of a process that failed to start:
// {"error":{"code":…,"cause":…,"effect":…,"mend":…}} on one line.
std::string startup_error_line(const Error& error);

}  // namespace hf::sys
