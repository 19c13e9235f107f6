// A real QEMU with real firmware, without a disk: the monitor, the console, sockets handed down.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "hypervisor/firmware.h"
#include "hypervisor/guest_agent.h"
#include "hypervisor/qemu_command.h"
#include "hypervisor/qmp_client.h"
#include "sys/bounded_io.h"

namespace hf::hypervisor {
namespace {

using std::chrono::milliseconds;

constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";

class QemuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access(kQemu, X_OK) != 0) GTEST_SKIP() << "no QEMU here";
    ASSERT_NE(::mkdtemp(path_.data()), nullptr);
  }
  void TearDown() override {
    if (pid_ > 0) {
      (void)::kill(pid_, SIGKILL);
      (void)::waitpid(pid_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // With the two listeners as descriptors 3 and 4, as the launcher does it.
  void start(const std::vector<std::string>& arguments) {
    auto qmp = sys::listen_unix(file("qmp"), sys::SocketType::kStream);
    auto console = sys::listen_unix(file("console"), sys::SocketType::kStream);
    ASSERT_TRUE(qmp.ok() && console.ok());
    std::vector<char*> argv;
    for (const std::string& word : arguments) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    int high_qmp = ::fcntl(qmp->get(), F_DUPFD_CLOEXEC, 100);
    int high_console = ::fcntl(console->get(), F_DUPFD_CLOEXEC, 100);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(high_qmp, 3);
      ::dup2(high_console, 4);
      ::execv(kQemu, argv.data());
      ::_exit(127);
    }
    ::close(high_qmp);
    ::close(high_console);
  }
  // Exit status, or -1 if it does not end within 10 s.
  int wait_end() {
    for (int i = 0; i < 1000; ++i) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      ::usleep(10'000);
    }
    return -1;
  }

 private:
  std::string path_ = "/tmp/hf-qemu-XXXXXX";
  pid_t pid_ = 0;
};

// Whether `text` comes from `fd` within `limit`.
bool comes(int fd, const std::string& text, milliseconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  std::string seen;
  while (seen.find(text) == std::string::npos) {
    auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    std::array<std::byte, 4096> chunk{};
    auto got = sys::receive_some(fd, chunk, std::max(left, milliseconds(0)));
    if (!got.ok() || *got == 0) return false;
    seen += as_text(ByteSpan(chunk).first(*got));
  }
  return true;
}

TEST_F(QemuTest, boots_secure_firmware_answers_the_monitor_and_quits) {
  auto firmware = find_firmware(FirmwareKind::kSecureBoot);
  if (!firmware.ok()) GTEST_SKIP() << firmware.error().describe();
  std::filesystem::copy_file(firmware->template_path, file("vars"));
  QemuDefinition definition;
  definition.name = "test";
  definition.memory_mib = 256;
  definition.firmware_code = firmware->code_path;
  definition.vars_file = file("vars");
  definition.security.vtpm = false;
  definition.guest_agent = true;
  definition.guest_agent_path = file("agent");
  // No NIC: the firmware would try to boot from it for a minute.
  auto arguments = qemu_arguments(definition);
  ASSERT_TRUE(arguments.ok()) << arguments.error().describe();
  start(*arguments);
  auto console = sys::connect_unix_within(file("console"), milliseconds(5000));
  ASSERT_TRUE(console.ok()) << console.error().describe();
  QmpClient monitor(file("qmp"), milliseconds(10'000));
  auto status = monitor.status();
  ASSERT_TRUE(status.ok()) << status.error().describe();
  EXPECT_EQ(*status, "running");
  // The firmware speaks on the serial console once it has found nothing to boot.
  EXPECT_TRUE(comes(console->get(), "BdsDxe", milliseconds(20'000)));
  // The port is there; firmware has no agent behind it, and that is told in time.
  GuestAgent agent(file("agent"), milliseconds(300));
  EXPECT_EQ(agent.ping().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(agent.ping().error().code, ErrorCode::kUnavailable);
  // QEMU tells of it by an event, in between.
  ASSERT_TRUE(monitor.execute("stop").ok());
  EXPECT_EQ(*monitor.status(), "paused");
  ASSERT_TRUE(monitor.execute("cont").ok());
  EXPECT_EQ(*monitor.status(), "running");
  ASSERT_TRUE(monitor.quit().ok());
  EXPECT_EQ(wait_end(), 0);
  EXPECT_EQ(monitor.status().error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace hf::hypervisor
