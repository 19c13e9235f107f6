// A seccomp filter for a program that is about to be executed, made before the fork: between fork
// and exec nothing but system calls is safe.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace hf::sys {

struct ForbiddenCalls {
  std::span<const int> calls;            // SCMP_SYS numbers: fail with EPERM
  std::span<const int> socket_families;  // socket() may make only these (AF_…)
};

// Everything is allowed but what is named; new namespaces are always forbidden (unshare, setns,
// clone with their flags; clone3 is unknown, since its flags cannot be looked at). Calls of other
// architectures end the process.
class ExecFilter {
 public:
  static Result<ExecFilter> forbid(const ForbiddenCalls& forbidden);

  // For the calling thread and what it executes, for good; it must have given up new privileges.
  // Async-signal-safe. False with errno.
  bool load() const;

 private:
  std::vector<sock_filter> program_;
};

}  // namespace hf::sys
