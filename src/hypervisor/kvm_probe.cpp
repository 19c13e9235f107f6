#include "hypervisor/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "sys/fd.h"

namespace hf::hypervisor {
namespace {

constexpr uint64_t kCodeAddress = 0x1000;
constexpr size_t kPage = 4096;
constexpr uint16_t kPort = 0x3f8;
constexpr uint8_t kProof = 0x5a;

// Real mode. fninit is there because nested hosts have been seen to fail at exactly it.
//   fninit; mov dx, 0x3f8; mov al, 0x2d; add al, 0x2d; out dx, al; hlt
constexpr std::array<uint8_t, 11> kCode = {0xdb, 0xe3, 0xba, 0xf8, 0x03, 0xb0,
                                           0x2d, 0x04, 0x2d, 0xee, 0xf4};

enum class Stage : int {
  kOpen,
  kVersion,
  kVm,
  kMemory,
  kVcpu,
  kRegisters,
  kRun,
  kWrongResult,
  kRan,
};
struct Outcome {
  Stage stage = Stage::kOpen;
  int error_number = 0;
  int smm = 0;
};

void set_real_mode(kvm_sregs& sregs, kvm_regs& regs) {
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  regs = {};
  regs.rip = kCodeAddress;
  regs.rflags = 2;  // the bit that is always set
}

// Runs in the child: system calls only. Leaves at the first stage that fails.
Outcome try_kvm(const char* device) {
  Outcome outcome;
  auto fail = [&outcome](Stage stage) {
    outcome.stage = stage;
    outcome.error_number = errno;
    return outcome;
  };
  int kvm = ::open(device, O_RDWR | O_CLOEXEC);
  if (kvm < 0) return fail(Stage::kOpen);
  if (::ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) return fail(Stage::kVersion);
  outcome.smm = ::ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM) > 0 ? 1 : 0;
  int vm = ::ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm < 0) return fail(Stage::kVm);
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return fail(Stage::kMemory);
  std::memcpy(page, kCode.data(), kCode.size());
  kvm_userspace_memory_region region{.slot = 0,
                                     .flags = 0,
                                     .guest_phys_addr = kCodeAddress,
                                     .memory_size = kPage,
                                     .userspace_addr = reinterpret_cast<uint64_t>(page)};
  if (::ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) return fail(Stage::kMemory);
  int vcpu = ::ioctl(vm, KVM_CREATE_VCPU, 0);
  int size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (vcpu < 0 || size < static_cast<int>(sizeof(kvm_run))) return fail(Stage::kVcpu);
  void* shared =
      ::mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (shared == MAP_FAILED) return fail(Stage::kVcpu);
  auto* run = static_cast<kvm_run*>(shared);
  kvm_sregs sregs{};
  kvm_regs regs{};
  if (::ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0) return fail(Stage::kRegisters);
  set_real_mode(sregs, regs);
  if (::ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0 || ::ioctl(vcpu, KVM_SET_REGS, &regs) != 0) {
    return fail(Stage::kRegisters);
  }
  bool proved = false;
  for (int exits = 0; exits < 16; ++exits) {
    if (::ioctl(vcpu, KVM_RUN, 0) != 0 && errno != EINTR) return fail(Stage::kRun);
    if (run->exit_reason == KVM_EXIT_HLT) break;
    if (run->exit_reason != KVM_EXIT_IO) return fail(Stage::kWrongResult);
    const auto* data = static_cast<const uint8_t*>(shared) + run->io.data_offset;
    proved = proved || (run->io.port == kPort && *data == kProof);
  }
  errno = 0;
  return proved ? fail(Stage::kRan) : fail(Stage::kWrongResult);
}

std::string describe(const std::string& device, const Outcome& outcome) {
  std::string why = errno_error(outcome.error_number, "").cause.substr(2);
  switch (outcome.stage) {
    case Stage::kOpen:
      if (outcome.error_number == ENOENT) return device + " does not exist";
      if (outcome.error_number == EACCES || outcome.error_number == EPERM) {
        return device + " cannot be opened by this user: " + why;
      }
      return device + " cannot be opened: " + why;
    case Stage::kVersion:
      return device + " opens and does not speak KVM's interface";
    case Stage::kVm:
      return device + " opens, and no virtual machine can be made: " + why;
    case Stage::kMemory:
      return device + " opens, and a virtual machine gets no memory: " + why;
    case Stage::kVcpu:
      return device + " opens, and no virtual CPU can be made: " + why;
    case Stage::kRegisters:
      return device + " opens, and a virtual CPU takes no registers: " + why;
    case Stage::kRun:
      return device + " opens, and a virtual CPU does not run: " + why;
    case Stage::kWrongResult:
      return device + " opens, and guest code does not run as it should";
    case Stage::kRan:
      break;
  }
  if (outcome.smm == 0) {
    return device +
           " runs guest code, without system management mode: Secure Boot firmware cannot run";
  }
  return "works";
}

KvmProbe failed(std::string reason) { return KvmProbe{.reason = std::move(reason)}; }

}  // namespace

KvmProbe probe_kvm(const std::string& device, std::chrono::milliseconds limit) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failed("no pipe for the probe");
  sys::UniqueFd reading(ends[0]);
  sys::UniqueFd writing(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return failed("no process for the probe");
  if (child == 0) {
    Outcome outcome = try_kvm(device.c_str());
    (void)!::write(writing.get(), &outcome, sizeof outcome);
    ::_exit(0);
  }
  writing.reset();
  pollfd poller{.fd = reading.get(), .events = POLLIN, .revents = 0};
  int ready = ::poll(&poller, 1, static_cast<int>(limit.count()));
  Outcome outcome;
  bool told = ready == 1 && ::read(reading.get(), &outcome, sizeof outcome) == sizeof outcome;
  if (!told) (void)::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!told) {
    return failed(ready == 0 ? device + " opens, and guest code hangs"
                             : device + " opens, and the probe died of it");
  }
  KvmProbe probe;
  probe.runs_guests = outcome.stage == Stage::kRan;
  probe.has_smm = outcome.smm != 0;
  probe.usable = probe.runs_guests && probe.has_smm;
  probe.reason = describe(device, outcome);
  return probe;
}

}  // namespace hf::hypervisor
