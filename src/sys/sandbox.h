// What a process gives up for good: files by Landlock, system calls by seccomp.
#pragma once

#include <span>
#include <string>

#include "base/result.h"

namespace hf::sys {

// Landlock: from now on this thread, and those it starts, may open no file but those below these
// directories, for reading, writing, making and removing. Descriptors that are open stay usable,
// and unix sockets can be connected to. Kernels without Landlock: nothing happens, owner and mode
// stand.
Status confine_files(std::span<const std::string> directories);

enum class OnOtherCall {
  kKill,    // the process ends
  kRefuse,  // the call fails with EPERM
};

// seccomp: all threads of the process may make these system calls (SCMP_SYS numbers) and no others,
// and sockets only of these families if socket() is among them. Without effect under a sanitizer,
// whose runtime has calls of its own.
inline constexpr int kUnixSocketsOnly[] = {1};  // AF_UNIX
Status allow_system_calls(std::span<const int> calls, OnOtherCall otherwise,
                          std::span<const int> socket_families = kUnixSocketsOnly);

}  // namespace hf::sys
