#include "sys/exec_filter.h"

#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "sys/fd.h"

namespace hf::sys {
namespace {

constexpr size_t kProgramMax = 4096;  // instructions; the kernel's limit
constexpr uint32_t kRefuse = SCMP_ACT_ERRNO(static_cast<uint32_t>(EPERM));
constexpr uint32_t kUnknown = SCMP_ACT_ERRNO(static_cast<uint32_t>(ENOSYS));
// CLONE_NEWTIME lies where clone() has the exit signal: only clone3 and unshare know it.
constexpr std::array<uint64_t, 7> kNamespaces{CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                              CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                              CLONE_NEWNET};

struct FilterFree {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, FilterFree>;

Status add(const Filter& filter, uint32_t action, int call) {
  int failed = seccomp_rule_add(filter.get(), action, call, 0);
  if (failed != 0) return errno_error(-failed, "add a seccomp rule");
  return {};
}

Status add_if(const Filter& filter, uint32_t action, int call, scmp_arg_cmp compare) {
  int failed = seccomp_rule_add(filter.get(), action, call, 1, compare);
  if (failed != 0) return errno_error(-failed, "add a seccomp rule");
  return {};
}

Status forbid_namespaces(const Filter& filter) {
  TRY(add(filter, kUnknown, SCMP_SYS(clone3)));
  TRY(add(filter, kRefuse, SCMP_SYS(unshare)));
  TRY(add(filter, kRefuse, SCMP_SYS(setns)));
  for (uint64_t flag : kNamespaces) {
    TRY(add_if(filter, kRefuse, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag)));
  }
  return {};
}

Status forbid_families(const Filter& filter, std::span<const int> allowed) {
  for (int family = 0; family < AF_MAX; ++family) {
    if (std::ranges::find(allowed, family) != allowed.end()) continue;
    TRY(add_if(filter, kRefuse, SCMP_SYS(socket),
               SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family), 0)));
  }
  return add_if(filter, kRefuse, SCMP_SYS(socket),
                SCMP_A0(SCMP_CMP_GE, static_cast<scmp_datum_t>(AF_MAX), 0));
}

}  // namespace

Result<ExecFilter> ExecFilter::forbid(const ForbiddenCalls& forbidden) {
  const Filter filter(seccomp_init(SCMP_ACT_ALLOW));
  HF_ASSERT(filter != nullptr);
  int failed = seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  if (failed != 0) return errno_error(-failed, "prepare the seccomp filter");
  for (int call : forbidden.calls) TRY(add(filter, kRefuse, call));
  TRY(forbid_namespaces(filter));
  TRY(forbid_families(filter, forbidden.socket_families));
  // Only whole descriptors are exported to; the program comes back out of this one.
  UniqueFd memory = TRY(memory_file("seccomp"));
  failed = seccomp_export_bpf(filter.get(), memory.get());
  if (failed != 0) return errno_error(-failed, "write the seccomp filter");
  Bytes bytes = TRY(read_all(memory.get(), kProgramMax * sizeof(sock_filter)));
  HF_ASSERT(!bytes.empty() && bytes.size() % sizeof(sock_filter) == 0);
  ExecFilter result;
  result.program_.resize(bytes.size() / sizeof(sock_filter));
  std::memcpy(result.program_.data(), bytes.data(), bytes.size());
  return result;
}

bool ExecFilter::load() const {
  sock_fprog program{.len = static_cast<unsigned short>(program_.size()),
                     .filter = const_cast<sock_filter*>(program_.data())};
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

}  // namespace hf::sys
