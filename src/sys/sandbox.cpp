#include "sys/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/sanitizer.h"
#include "sys/fd.h"

namespace hf::sys {
namespace {

// All of Landlock's first version: 5.13 and later know them.
constexpr uint64_t kHandledRights =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM;
constexpr uint64_t kGrantedRights = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                                    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                    LANDLOCK_ACCESS_FS_MAKE_REG;

struct FilterFree {
  void operator()(void* filter) const { seccomp_release(filter); }
};

}  // namespace

Status confine_files(std::span<const std::string> directories) {
  const landlock_ruleset_attr attributes{.handled_access_fs = kHandledRights};
  const UniqueFd ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (!ruleset) {
    if (errno == ENOSYS || errno == EOPNOTSUPP) return {};
    return errno_error(errno, "create a Landlock ruleset");
  }
  for (const std::string& directory : directories) {
    const UniqueFd below(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!below) return errno_error(errno, "open " + directory);
    const landlock_path_beneath_attr rule{.allowed_access = kGrantedRights,
                                          .parent_fd = below.get()};
    if (::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) !=
        0) {
      return errno_error(errno, "add a Landlock rule for " + directory);
    }
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return errno_error(errno, "confine the process by Landlock");
  }
  return {};
}

static_assert(kUnixSocketsOnly[0] == AF_UNIX);

Status allow_system_calls(std::span<const int> calls, OnOtherCall otherwise,
                          std::span<const int> socket_families) {
  if (under_sanitizer()) return {};
  const uint32_t other = otherwise == OnOtherCall::kKill
                             ? SCMP_ACT_KILL_PROCESS
                             : SCMP_ACT_ERRNO(static_cast<uint32_t>(EPERM));
  const std::unique_ptr<void, FilterFree> filter(seccomp_init(other));
  HF_ASSERT(filter != nullptr);
  int failed = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (failed != 0) return errno_error(-failed, "prepare the seccomp filter");
  for (const int call : calls) {
    if (call == SCMP_SYS(socket)) continue;
    failed = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0);
    if (failed != 0) return errno_error(-failed, "add a seccomp rule");
  }
  const bool makes_sockets = std::ranges::find(calls, SCMP_SYS(socket)) != calls.end();
  for (const int family : makes_sockets ? socket_families : std::span<const int>()) {
    failed = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family), 0));
    if (failed != 0) return errno_error(-failed, "add a seccomp rule");
  }
  failed = seccomp_load(filter.get());
  if (failed != 0) return errno_error(-failed, "load the seccomp filter");
  return {};
}

}  // namespace hf::sys
