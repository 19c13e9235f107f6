// What the link's process gives up once its sockets are there.
#pragma once

#include "base/result.h"

namespace hf::link {

// Landlock: no file at all. seccomp: an allow-list; the process is killed by any other call.
// Sockets are made for IPv4 and IPv6 only; nothing is executed, no thread or process is started.
// The list is in sandbox.cpp, to be reviewed as text.
Status enter_sandbox();

}  // namespace hf::link
