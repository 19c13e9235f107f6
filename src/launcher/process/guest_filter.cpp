#include "launcher/process/guest_filter.h"

#include <seccomp.h>
#include <sys/socket.h>

#include <array>

namespace hf::launcher {
namespace {

// Ways to other processes, to the kernel's insides, to other trees of files: no part of an
// emulator.
constexpr std::array kForbidden = {
    // other processes
    SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise), SCMP_SYS(process_mrelease), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
    // trees of files
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(open_tree),
    SCMP_SYS(move_mount), SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr), SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at),
    SCMP_SYS(quotactl), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(fanotify_init),
    SCMP_SYS(fanotify_mark),
    // the kernel
    SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
    SCMP_SYS(reboot), SCMP_SYS(syslog), SCMP_SYS(acct), SCMP_SYS(iopl), SCMP_SYS(ioperm),
    SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
    // keys
    SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl)};

constexpr std::array kLocal = {AF_UNIX};
constexpr std::array kInternet = {AF_UNIX, AF_INET, AF_INET6};

}  // namespace

Result<sys::ExecFilter> guest_filter(GuestNetwork network) {
  std::span<const int> families = kLocal;
  if (network == GuestNetwork::kUser) families = kInternet;
  return sys::ExecFilter::forbid({.calls = kForbidden, .socket_families = families});
}

}  // namespace hf::launcher
