#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <thread>

#include "hypervisor/firmware.h"
#include "hypervisor/kvm_probe.h"
#include "hypervisor/qmp_client.h"
#include "sys/bounded_io.h"

namespace hf::hypervisor {
namespace {

using std::chrono::milliseconds;

class HypervisorTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(path_.data()), nullptr); }
  void TearDown() override { (void)std::system(("rm -rf " + path_).c_str()); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
  }

 private:
  std::string path_ = "/tmp/hf-hyper-XXXXXX";
};

class Firmwares : public HypervisorTest {};

TEST_F(Firmwares, a_vm_keeps_the_build_it_was_made_with) {
  write("OVMF_CODE_4M.secboot.fd", "build one");
  write("OVMF_VARS_4M.ms.fd", "vars");
  auto made_with = find_firmware(FirmwareKind::kSecureBoot, file(""));
  ASSERT_TRUE(made_with.ok()) << made_with.error().describe();
  EXPECT_TRUE(require_firmware(FirmwareKind::kSecureBoot, made_with->build, file("")).ok());
  write("OVMF_CODE_4M.secboot.fd", "build two");
  auto now = find_firmware(FirmwareKind::kSecureBoot, file(""));
  ASSERT_TRUE(now.ok());
  auto refused = require_firmware(FirmwareKind::kSecureBoot, made_with->build, file(""));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_NE(refused.error().cause.find(made_with->build.hex()), std::string::npos);
  EXPECT_NE(refused.error().cause.find(now->build.hex()), std::string::npos);
  EXPECT_FALSE(refused.error().effect.empty());
  EXPECT_FALSE(refused.error().mend.empty());
}

TEST_F(Firmwares, none_installed_names_the_package) {
  auto none = find_firmware(FirmwareKind::kPlain, file(""));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(none.error().mend, "apt-get install ovmf");
}

class Kvm : public HypervisorTest {};

TEST_F(Kvm, an_absent_device_is_named) {
  KvmProbe probe = probe_kvm(file("kvm"));
  EXPECT_FALSE(probe.usable);
  EXPECT_EQ(probe.reason, file("kvm") + " does not exist");
}

TEST_F(Kvm, a_device_that_opens_and_is_not_kvm_is_named) {
  KvmProbe probe = probe_kvm("/dev/null");
  EXPECT_FALSE(probe.usable);
  EXPECT_EQ(probe.reason, "/dev/null opens and does not speak KVM's interface");
}

TEST_F(Kvm, an_unreadable_device_is_named) {
  if (::geteuid() != 0) {
    write("kvm", "");
    ::chmod(file("kvm").c_str(), 0);
    EXPECT_NE(probe_kvm(file("kvm")).reason.find("cannot be opened by this user"),
              std::string::npos);
    return;
  }
  // Root opens everything but what the file system itself refuses: a directory.
  EXPECT_NE(probe_kvm(file("")).reason.find("cannot be opened"), std::string::npos);
}

TEST_F(Kvm, the_probe_of_this_machine_ends_in_time_and_gives_a_reason) {
  auto start = std::chrono::steady_clock::now();
  KvmProbe probe = probe_kvm();
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(5000));
  EXPECT_FALSE(probe.reason.empty());
  EXPECT_EQ(probe.usable, probe.reason == "works");
  EXPECT_EQ(probe.usable, probe.runs_guests && probe.has_smm);
  RecordProperty("reason", probe.reason);
}

// A monitor that says what the test wants.
class Qmp : public HypervisorTest {
 protected:
  static constexpr const char* kGreeting = R"({"QMP":{"version":{},"capabilities":[]}})";

  void serve(std::function<void(int)> conversation) {
    auto listener = sys::listen_unix(file("qmp"), sys::SocketType::kStream);
    ASSERT_TRUE(listener.ok());
    thread_ = std::thread([listener = std::move(*listener), conversation] {
      sys::UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      conversation(fd.get());
    });
  }
  void TearDown() override {
    if (thread_.joinable()) thread_.join();
    HypervisorTest::TearDown();
  }
  static void say(int fd, const std::string& line) {
    (void)sys::send_all(fd, as_bytes(line + "\r\n"), milliseconds(1000));
  }
  static std::string hear(int fd) {
    std::array<std::byte, 1024> buffer{};
    auto got = sys::receive_some(fd, buffer, milliseconds(2000));
    return got.ok() ? std::string(as_text(ByteSpan(buffer).first(*got))) : "";
  }
  static void shake_hands(int fd) {
    say(fd, kGreeting);
    (void)hear(fd);
    say(fd, R"({"return":{},"id":1})");
  }

  std::thread thread_;
};

TEST_F(Qmp, events_between_a_call_and_its_answer_are_passed_over) {
  serve([](int fd) {
    shake_hands(fd);
    (void)hear(fd);
    say(fd, R"({"event":"STOP","timestamp":{},"data":{"why":"test"}})");
    say(fd, R"({"return":{"status":"paused","running":false},"id":2})");
  });
  QmpClient client(file("qmp"), milliseconds(2000));
  auto status = client.status();
  ASSERT_TRUE(status.ok()) << status.error().describe();
  EXPECT_EQ(*status, "paused");
}

TEST_F(Qmp, a_monitor_that_does_not_answer_costs_the_limit_and_no_more) {
  serve([](int fd) {
    shake_hands(fd);
    (void)hear(fd);
    (void)hear(fd);  // until the client drops the connection
  });
  QmpClient client(file("qmp"), milliseconds(200));
  auto start = std::chrono::steady_clock::now();
  auto status = client.status();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kTimeout);
  EXPECT_FALSE(status.error().effect.empty());
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(1500));
  EXPECT_FALSE(client.connected()) << "a late answer must not be taken for another call's";
}

TEST_F(Qmp, a_refusal_has_qemus_words_and_keeps_the_connection) {
  serve([](int fd) {
    shake_hands(fd);
    (void)hear(fd);
    say(fd, R"({"error":{"class":"GenericError","desc":"no such thing"},"id":2})");
    (void)hear(fd);
    say(fd, R"({"return":{"status":"running"},"id":3})");
  });
  QmpClient client(file("qmp"), milliseconds(2000));
  auto refused = client.execute("eject");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_EQ(refused.error().cause, "QEMU refused eject: no such thing");
  EXPECT_EQ(*client.status(), "running");
}

TEST_F(Qmp, nobody_there_is_told_apart) {
  QmpClient client(file("none"), milliseconds(100));
  EXPECT_EQ(client.status().error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace hf::hypervisor
