// A VM's serial console: a stream socket that QEMU serves, one client at a time. A second client
// waits until the first has gone.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::hypervisor {

// kUnavailable: the VM does not run.
Result<sys::UniqueFd> connect_console(const std::string& socket_path,
                                      std::chrono::milliseconds limit);

// Reads until `text` has come, for tests and for scripted waits; returns all that came. kTimeout
// has the last line in its cause. At most `bytes_max` are kept.
Result<std::string> read_console_until(int fd, const std::string& text,
                                       std::chrono::milliseconds limit,
                                       size_t bytes_max = size_t{4} << 20);

}  // namespace hf::hypervisor
