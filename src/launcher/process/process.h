// Starting one program with exactly what it may have, and watching it by pidfd.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/exec_filter.h"
#include "sys/fd.h"

namespace hf::launcher {

struct NamedFd {
  std::string name;
  int fd = -1;  // borrowed
};

struct ProcessSpec {
  std::string program;  // absolute
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // NAME=VALUE; LISTEN_* are added
  std::vector<NamedFd> fds;              // numbered from 3 in this order
  uid_t user = 0;
  gid_t group = 0;
  std::optional<gid_t> extra_group;  // QEMU: the group of /dev/kvm
  bool change_user = false;          // only root can
  bool empty_network = false;        // a network namespace with nothing in it
  bool lock_memory = false;          // no limit on locked memory
  int directory = -1;                // that it is started in, borrowed; -1: /
  int cgroup = -1;                   // its directory, borrowed; -1: stays in the launcher's
  bool begins_in_cgroup = false;     // Cgroup::fresh(); else it is begun outside, and enters
  std::optional<sys::ExecFilter> filter;
};

struct Process {
  pid_t pid = 0;
  sys::UniqueFd pidfd;
  sys::UniqueFd stderr_pipe;  // non-blocking
};

// What is done between fork and exec, in the parent, with the child's pid: what must be written
// down of a process before it does anything. An error ends the child.
using BeforeExec = std::function<Status(pid_t)>;

// The child: own session, stdin and stdout /dev/null, stderr to the pipe, all other descriptors
// closed, default signals except SIGPIPE (ignored: the launcher's death must not kill it by a log
// line), umask 077, no core files, no new privileges. Returns when the program runs; an error
// names the step that failed. Only from a process with one thread or in tests: the child calls
// nothing but system calls before exec, and ends if its parent dies until then.
Result<Process> spawn(const ProcessSpec& spec, const BeforeExec& before_exec = nullptr);

struct ExitStatus {
  int status = 0;  // exit status, if signal is 0
  int signal = 0;
};
// If the process has gone: how. For a process that is not our child (adopted): {-1, 0}.
std::optional<ExitStatus> reap(int pidfd);

Status send_signal(int pidfd, int signal);
// Field 22 of /proc/PID/stat: with the pid it names a process for good. kNotFound: no such process.
Result<uint64_t> start_time_of(pid_t pid);
Result<sys::UniqueFd> open_pidfd(pid_t pid);
// Children of this process that are not among `own`: what its children have left behind, once
// become_subreaper() has succeeded. Killed and reaped; how many are still there.
size_t end_strays(const std::set<pid_t>& own);
bool become_subreaper();
// Whether this process may make network namespaces (a container may forbid it even to root).
bool can_empty_network();

}  // namespace hf::launcher
