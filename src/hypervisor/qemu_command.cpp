#include "hypervisor/qemu_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "hypervisor/firmware.h"
#include "hypervisor/guest_agent.h"

namespace hf::hypervisor {
namespace {

// Slots on the root bus, fixed by a device's number and not by what else there is: a NIC more does
// not move the disks. 0 is the host bridge, 0x1f the ICH9.
constexpr size_t kNicSlotFirst = 0x02;
constexpr size_t kDiskSlotFirst = 0x0a;
constexpr size_t kRngSlot = 0x1a;
constexpr size_t kSerialSlot = 0x1b;
static_assert(kNicSlotFirst + kNicsMax <= kDiskSlotFirst);
static_assert(kDiskSlotFirst + kDisksMax <= kRngSlot);

// A keeper that restarts is back within milliseconds; a minute leaves room for a restart with
// recovery of a long journal. After it the guest sees I/O errors.
constexpr int kReconnectDelay = 60;  // seconds

Error bad(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = std::move(cause),
               .effect = "the VM was not started",
               .mend = "correct the VM's definition: holdfast vm show"};
}

// In QEMU's option syntax a comma ends a value.
Status check_path(const std::string& path, std::string_view what) {
  bool odd = std::ranges::any_of(
      path, [](char c) { return c == ',' || static_cast<unsigned char>(c) < 0x20; });
  if (!path.starts_with('/') || odd) {
    return bad(std::string(what) + " \"" + path +
               "\" must be an absolute path without commas and control characters");
  }
  return {};
}

// Absolute, or a file where QEMU is started.
Status check_socket(const std::string& path, std::string_view what) {
  if (path.starts_with('/')) return check_path(path, what);
  auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  if (!path.empty() && path.front() != '.' && std::ranges::all_of(path, good)) return {};
  return bad(std::string(what) + " \"" + path + "\" must be a file name or an absolute path");
}

Status check_word(const std::string& word, std::string_view what) {
  auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (word.empty() || word.size() > 64 || !std::ranges::all_of(word, good)) {
    return bad(std::string(what) + " \"" + word + "\" may have letters, digits, '-', '_' and '.'");
  }
  return {};
}

Status check_mac(const std::string& mac) {
  bool good = mac.size() == 17;
  for (size_t i = 0; good && i < mac.size(); ++i) {
    bool hex = (mac[i] >= '0' && mac[i] <= '9') || (mac[i] >= 'a' && mac[i] <= 'f');
    good = i % 3 == 2 ? mac[i] == ':' : hex;
  }
  // The second digit's lowest bit says multicast.
  if (good && ((mac[1] >= 'a' ? mac[1] - 'a' + 10 : mac[1] - '0') & 1) == 0) return {};
  return bad("the MAC address \"" + mac + "\" is not like 52:54:00:12:34:56");
}

std::string doubled_commas(std::string_view text) {
  std::string result;
  for (char c : text) {
    result += c;
    if (c == ',') result += c;
  }
  return result;
}

Status check(const QemuDefinition& d) {
  TRY(check_word(d.name, "the VM name"));
  TRY(check_machine_type(d.machine_type));
  TRY(check_path(d.firmware_code, "the firmware"));
  if (d.vars_file.empty())
    TRY(check_socket(d.vars_socket_path, "the socket of the variable store"));
  if (!d.vars_file.empty()) TRY(check_path(d.vars_file, "the variable store"));
  if (d.security.vtpm) TRY(check_socket(d.tpm_socket_path, "the vTPM's socket"));
  if (d.cpus == 0 || d.cpus > kCpusMax) return bad("a VM has 1 to 255 CPUs");
  if (d.memory_mib < 64) return bad("a VM has at least 64 MiB of memory");
  if (d.disks.size() > kDisksMax) return bad("a VM has at most 16 disks");
  if (d.nics.size() > kNicsMax) return bad("a VM has at most 8 NICs");
  for (const DiskNode& disk : d.disks) {
    TRY(check_word(disk.name, "the disk name"));
    TRY(check_socket(disk.socket_path, "the disk's socket"));
    auto same = [&](const DiskNode& other) { return other.name == disk.name; };
    if (std::ranges::count_if(d.disks, same) > 1 || disk.name == "vars" || disk.name == "code") {
      return bad("the disk name " + disk.name + " is taken");
    }
  }
  for (const Nic& nic : d.nics) TRY(check_mac(nic.mac));
  return {};
}

std::string uuid_of(VmId vm) {
  std::string hex = vm.hex();
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20));
}

class Arguments {
 public:
  void add(std::string_view option, std::string value) {
    words_.emplace_back(option);
    words_.push_back(std::move(value));
  }
  void add(std::string_view option) { words_.emplace_back(option); }
  std::vector<std::string> take() { return std::move(words_); }

 private:
  std::vector<std::string> words_{"qemu-system-x86_64"};
};

void add_machine(Arguments& out, const QemuDefinition& d) {
  bool smm = d.security.secure_boot;
  out.add("-name", "guest=" + d.name + ",debug-threads=on");
  out.add("-uuid", uuid_of(d.vm));
  out.add("-nodefaults");
  out.add("-no-user-config");
  out.add("-display", "none");
  out.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  // The guest's memory goes into no core file, whatever the host does with those.
  out.add("-machine",
          fmt::format("{},smm={},vmport=off,dump-guest-core=off,pflash0=code,pflash1=vars",
                      d.machine_type, smm ? "on" : "off"));
  if (smm) {
    out.add("-global", "driver=cfi.pflash01,property=secure,value=on");
    // Resume from S3 is not covered by the firmware's SMM lock-down.
    out.add("-global", "driver=ICH9-LPC,property=disable_s3,value=1");
  }
  out.add("-accel", d.accelerator == Accelerator::kKvm ? "kvm" : "tcg,thread=multi");
  out.add("-cpu", d.accelerator == Accelerator::kKvm ? "host" : "max");
  out.add("-smp", fmt::format("cpus={0},sockets=1,cores={0},threads=1", d.cpus));
  out.add("-m", fmt::format("size={}M", d.memory_mib));
  out.add("-rtc", "base=utc");
  out.add("-boot", "menu=off,strict=on");
  if (d.no_reboot) out.add("-no-reboot");
}

std::string nbd_node(std::string_view name, const std::string& path, std::string_view more) {
  return fmt::format("driver=nbd,node-name={},server.type=unix,server.path={},reconnect-delay={}{}",
                     name, path, kReconnectDelay, more);
}

void add_storage(Arguments& out, const QemuDefinition& d) {
  out.add("-blockdev",
          fmt::format("driver=file,node-name=code,filename={},read-only=on", d.firmware_code));
  out.add("-blockdev", d.vars_file.empty()
                           ? nbd_node("vars", d.vars_socket_path, "")
                           : fmt::format("driver=file,node-name=vars,filename={}", d.vars_file));
  for (size_t i = 0; i < d.disks.size(); ++i) {
    const DiskNode& disk = d.disks[i];
    out.add("-blockdev",
            nbd_node(disk.name, disk.socket_path,
                     disk.read_only ? ",read-only=on" : ",discard=unmap,cache.direct=off"));
    out.add("-device",
            fmt::format("virtio-blk-pci,id=dev-{0},drive={0},serial={1},bus=pcie.0,addr={2:#04x},"
                        "bootindex={3},disable-legacy=on,write-cache=on",
                        disk.name, disk.name.substr(0, 20), kDiskSlotFirst + i, i + 1));
  }
}

void add_nics(Arguments& out, const QemuDefinition& d) {
  for (size_t i = 0; i < d.nics.size(); ++i) {
    // A hub of its own with nothing else on it: the link is there and leads nowhere.
    out.add("-netdev", d.nics[i].network == Network::kUser
                           ? fmt::format("user,id=net{}", i)
                           : fmt::format("hubport,id=net{0},hubid={0}", i));
    // No option ROM: it would be measured, and it would offer to boot from the network.
    out.add("-device", fmt::format("virtio-net-pci,id=nic{0},netdev=net{0},mac={1},bus=pcie.0,"
                                   "addr={2:#04x},disable-legacy=on,romfile=",
                                   i, d.nics[i].mac, kNicSlotFirst + i));
  }
}

void add_channels(Arguments& out, const QemuDefinition& d) {
  if (d.security.vtpm) {
    out.add("-chardev", "socket,id=tpm-control,path=" + d.tpm_socket_path);
    out.add("-tpmdev", "emulator,id=tpm,chardev=tpm-control");
    out.add("-device", "tpm-crb,tpmdev=tpm");
  }
  auto listener = [](const std::string& path, int fd) {
    return (path.empty() ? fmt::format("fd={}", fd) : "path=" + path) + ",server=on,wait=off";
  };
  out.add("-chardev", "socket,id=console," + listener(d.console_path, d.console_fd));
  out.add("-serial", "chardev:console");
  out.add("-chardev", "socket,id=monitor," + listener(d.qmp_path, d.qmp_fd));
  out.add("-mon", "chardev=monitor,mode=control");
  out.add("-object", "rng-random,id=entropy,filename=/dev/urandom");
  out.add("-device", fmt::format("virtio-rng-pci,rng=entropy,bus=pcie.0,addr={:#04x},"
                                 "disable-legacy=on",
                                 kRngSlot));
  if (!d.guest_agent) return;
  out.add("-chardev", "socket,id=guest-agent," + listener(d.guest_agent_path, d.guest_agent_fd));
  out.add("-device", fmt::format("virtio-serial-pci,id=ports,bus=pcie.0,addr={:#04x},"
                                 "disable-legacy=on,max_ports=2",
                                 kSerialSlot));
  out.add("-device", fmt::format("virtserialport,bus=ports.0,nr=1,chardev=guest-agent,name={}",
                                 kGuestAgentPort));
}

}  // namespace

Result<std::vector<std::string>> qemu_arguments(const QemuDefinition& definition) {
  TRY(check(definition));
  Arguments out;
  add_machine(out, definition);
  add_storage(out, definition);
  add_nics(out, definition);
  add_channels(out, definition);
  for (const FirmwareConfig& entry : definition.firmware_config) {
    auto good = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '/' ||
             c == '_';
    };
    if (entry.name.empty() || entry.name.size() > 50 || !std::ranges::all_of(entry.name, good)) {
      return bad("the fw_cfg name \"" + entry.name + "\" may have a-z, 0-9, '.', '-', '_', '/'");
    }
    out.add("-fw_cfg", "name=opt/" + entry.name + ",string=" + doubled_commas(entry.text));
  }
  return out.take();
}

}  // namespace hf::hypervisor
