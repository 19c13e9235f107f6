#include "hypervisor/qemu_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hf::hypervisor {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

QemuDefinition trusted() {
  QemuDefinition definition;
  definition.name = "probe";
  definition.vm = *VmId::parse_hex("00112233445566778899aabbccddeeff");
  definition.cpus = 2;
  definition.memory_mib = 1024;
  definition.firmware_code = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
  definition.vars_socket_path = "/s/run/vars.nbd";
  definition.tpm_socket_path = "/s/run/tpm.sock";
  definition.disks = {{.name = "disk1", .socket_path = "/s/run/disk1.nbd"},
                      {.name = "disk2", .socket_path = "/s/run/disk2.nbd"}};
  definition.nics = {{.mac = "52:54:00:12:34:56", .network = Network::kUser},
                     {.mac = "52:54:00:12:34:57"}};
  definition.firmware_config = {{.name = "org.holdfast/test", .text = "a,b"}};
  return definition;
}

// One option a line.
std::string joined(const std::vector<std::string>& arguments) {
  std::string text;
  for (const std::string& word : arguments) {
    if (word.starts_with('-')) text += '\n';
    text += (text.empty() || text.back() == '\n' ? "" : " ") + word;
  }
  return text;
}

constexpr const char* kTrustedGolden =
    R"(qemu-system-x86_64
-name guest=probe,debug-threads=on
-uuid 00112233-4455-6677-8899-aabbccddeeff
-nodefaults
-no-user-config
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine pc-q35-7.2,smm=on,vmport=off,dump-guest-core=off,pflash0=code,pflash1=vars
-global driver=cfi.pflash01,property=secure,value=on
-global driver=ICH9-LPC,property=disable_s3,value=1
-accel tcg,thread=multi
-cpu max
-smp cpus=2,sockets=1,cores=2,threads=1
-m size=1024M
-rtc base=utc
-boot menu=off,strict=on
-blockdev driver=file,node-name=code,filename=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd,read-only=on
-blockdev driver=nbd,node-name=vars,server.type=unix,server.path=/s/run/vars.nbd,reconnect-delay=60
-blockdev driver=nbd,node-name=disk1,server.type=unix,server.path=/s/run/disk1.nbd,reconnect-delay=60,discard=unmap,cache.direct=off
-device virtio-blk-pci,id=dev-disk1,drive=disk1,serial=disk1,bus=pcie.0,addr=0x0a,bootindex=1,disable-legacy=on,write-cache=on
-blockdev driver=nbd,node-name=disk2,server.type=unix,server.path=/s/run/disk2.nbd,reconnect-delay=60,discard=unmap,cache.direct=off
-device virtio-blk-pci,id=dev-disk2,drive=disk2,serial=disk2,bus=pcie.0,addr=0x0b,bootindex=2,disable-legacy=on,write-cache=on
-netdev user,id=net0
-device virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:12:34:56,bus=pcie.0,addr=0x02,disable-legacy=on,romfile=
-netdev hubport,id=net1,hubid=1
-device virtio-net-pci,id=nic1,netdev=net1,mac=52:54:00:12:34:57,bus=pcie.0,addr=0x03,disable-legacy=on,romfile=
-chardev socket,id=tpm-control,path=/s/run/tpm.sock
-tpmdev emulator,id=tpm,chardev=tpm-control
-device tpm-crb,tpmdev=tpm
-chardev socket,id=console,fd=4,server=on,wait=off
-serial chardev:console
-chardev socket,id=monitor,fd=3,server=on,wait=off
-mon chardev=monitor,mode=control
-object rng-random,id=entropy,filename=/dev/urandom
-device virtio-rng-pci,rng=entropy,bus=pcie.0,addr=0x1a,disable-legacy=on
-fw_cfg name=opt/org.holdfast/test,string=a,,b)";

TEST(QemuCommand, a_trusted_launch_vm_is_exactly_this) {
  auto arguments = qemu_arguments(trusted());
  ASSERT_TRUE(arguments.ok()) << arguments.error().describe();
  EXPECT_EQ(joined(*arguments), kTrustedGolden);
}

TEST(QemuCommand, a_standard_vm_has_neither_smm_nor_tpm) {
  QemuDefinition definition = trusted();
  definition.security = {.secure_boot = false, .vtpm = false};
  definition.tpm_socket_path.clear();
  definition.accelerator = Accelerator::kKvm;
  auto arguments = qemu_arguments(definition);
  ASSERT_TRUE(arguments.ok()) << arguments.error().describe();
  std::string text = joined(*arguments);
  EXPECT_THAT(text, HasSubstr("pc-q35-7.2,smm=off,"));
  EXPECT_THAT(text, HasSubstr("-accel kvm\n-cpu host\n"));
  EXPECT_THAT(text, Not(HasSubstr("tpm")));
  EXPECT_THAT(text, Not(HasSubstr("cfi.pflash01")));
}

TEST(QemuCommand, a_guest_agents_port_is_added_behind_all_else) {
  QemuDefinition definition = trusted();
  definition.guest_agent = true;
  definition.firmware_config.clear();
  auto with = qemu_arguments(definition);
  definition.guest_agent = false;
  auto without = qemu_arguments(definition);
  ASSERT_TRUE(with.ok() && without.ok());
  std::string text = joined(*with);
  ASSERT_TRUE(text.starts_with(joined(*without)));
  EXPECT_EQ(
      text.substr(joined(*without).size()),
      "\n-chardev socket,id=guest-agent,fd=5,server=on,wait=off"
      "\n-device virtio-serial-pci,id=ports,bus=pcie.0,addr=0x1b,disable-legacy=on,max_ports=2"
      "\n-device "
      "virtserialport,bus=ports.0,nr=1,chardev=guest-agent,name=org.qemu.guest_agent.0");
}

TEST(QemuCommand, another_nic_does_not_move_the_disks) {
  QemuDefinition few = trusted();
  few.nics.clear();
  auto with = qemu_arguments(trusted());
  auto without = qemu_arguments(few);
  ASSERT_TRUE(with.ok() && without.ok());
  for (const std::string& word : *without) {
    if (word.starts_with("virtio-blk")) EXPECT_THAT(*with, Contains(word));
  }
}

TEST(QemuCommand, refuses_what_would_smuggle_in_options) {
  auto refused = [](auto change) {
    QemuDefinition definition = trusted();
    change(definition);
    auto arguments = qemu_arguments(definition);
    return !arguments.ok() && arguments.error().code == ErrorCode::kInvalidArgument &&
           !arguments.error().mend.empty();
  };
  EXPECT_TRUE(refused([](auto& d) { d.name = "a,process=b"; }));
  EXPECT_TRUE(refused([](auto& d) { d.firmware_code = "/a,readonly=off"; }));
  for (const char* path : {"", "..", "../x.nbd", "a/b", "a,server=x", "/a,server=x"}) {
    EXPECT_TRUE(refused([&](auto& d) { d.disks[0].socket_path = path; })) << path;
    EXPECT_TRUE(refused([&](auto& d) { d.vars_socket_path = path; })) << path;
    EXPECT_TRUE(refused([&](auto& d) { d.tpm_socket_path = path; })) << path;
  }
  EXPECT_TRUE(refused([](auto& d) { d.disks[0].name = "disk2"; }));
  EXPECT_TRUE(refused([](auto& d) { d.disks[0].name = "vars"; }));
  EXPECT_TRUE(refused([](auto& d) { d.nics[0].mac = "52:54:00:12:34:56,id=x"; }));
  EXPECT_TRUE(refused([](auto& d) { d.nics[0].mac = "53:54:00:12:34:56"; })) << "multicast";
  EXPECT_TRUE(refused([](auto& d) { d.machine_type = "q35"; })) << "not versioned";
  EXPECT_TRUE(refused([](auto& d) { d.machine_type = "pc-q35-7.2,smm=off"; }));
  EXPECT_TRUE(refused([](auto& d) { d.firmware_config[0].name = "x,file=/etc/shadow"; }));
  EXPECT_TRUE(refused([](auto& d) { d.cpus = 0; }));
  EXPECT_TRUE(refused([](auto& d) { d.disks.resize(17, d.disks[0]); }));
}

}  // namespace
}  // namespace hf::hypervisor
