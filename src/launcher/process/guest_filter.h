// The system calls that QEMU is kept from, by the launcher and not by QEMU's own -sandbox: that one
// begins only after QEMU has read its command line.
#pragma once

#include "sys/exec_filter.h"

namespace hf::launcher {

enum class GuestNetwork { kNone, kUser };

// kNone: sockets of AF_UNIX only; kUser: those of the Internet too.
Result<sys::ExecFilter> guest_filter(GuestNetwork network);

}  // namespace hf::launcher
