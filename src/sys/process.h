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

// For a program that stays when whoever started it has gone: closes all descriptors but 0, 1 and 2,
// which came along without anybody's intention (a caller's lock, pipe or socket would be held for
// as long as the program runs), and puts /dev/null where one of those three is missing, so that
// nothing that is opened later is taken for it. To be called before anything is opened.
Status drop_inherited_descriptors();

// A command for an operator who may be another user than this process: with sudo, unless this is
// root.
std::string root_command(const std::string& command);

// The launcher reads the last line of stderr of a process that failed to start:
// {"error":{"code":…,"cause":…,"effect":…,"mend":…}} on one line.
std::string startup_error_line(const Error& error);

}  // namespace hf::sys
