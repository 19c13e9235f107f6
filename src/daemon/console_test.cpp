#include "daemon/console.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "sys/bounded_io.h"
#include "sys/unix_socket.h"

namespace hf::daemon {
namespace {

using namespace std::chrono_literals;

class ConsoleTest : public ::testing::Test {
 protected:
  ConsoleTest() {
    char pattern[] = "/tmp/hf-console-XXXXXX";
    dir_ = mkdtemp(pattern);
    path_ = dir_ + "/console.sock";
    listener_ = std::move(sys::listen_unix(path_, sys::SocketType::kStream)).value();
  }
  ~ConsoleTest() override { std::filesystem::remove_all(dir_); }
  sys::UniqueFd accept() {
    return sys::UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  static std::string read_until(BodyStream& stream, std::string_view wanted) {
    std::string all;
    for (int i = 0; i < 20 && all.find(wanted) == std::string::npos; ++i) {
      std::optional<std::string> chunk = stream.next();
      if (!chunk) break;
      all += *chunk;
    }
    return all;
  }

  std::string dir_;
  std::string path_;
  sys::UniqueFd listener_;
  VmId vm_;
};

TEST_F(ConsoleTest, what_was_said_before_anyone_looked_is_shown) {
  ConsoleHub hub;
  hub.attach(vm_, path_, ConsoleStart::kFresh);
  sys::UniqueFd qemu = accept();
  ASSERT_TRUE(sys::send_all(qemu.get(), as_bytes("BdsDxe: loading\n"), 1s).ok());
  auto stream = std::move(hub.read(vm_, true)).value();
  EXPECT_EQ(read_until(*stream, "loading\n"), "BdsDxe: loading\n");
}

TEST_F(ConsoleTest, it_connects_again_and_typing_arrives) {
  ConsoleHub hub;
  hub.attach(vm_, path_, ConsoleStart::kFresh);
  accept().reset();
  sys::UniqueFd qemu = accept();
  Status typed = hub.write(vm_, "ls\n");
  for (int i = 0; i < 100 && !typed.ok(); ++i) {
    std::this_thread::sleep_for(10ms);
    typed = hub.write(vm_, "ls\n");
  }
  ASSERT_TRUE(typed.ok());
  std::byte got[8];
  EXPECT_EQ(*sys::receive_some(qemu.get(), got, 1s), 3U);
}

TEST_F(ConsoleTest, only_the_newest_bytes_are_kept) {
  ConsoleHub hub;
  hub.attach(vm_, path_, ConsoleStart::kFresh);
  sys::UniqueFd qemu = accept();
  std::string block(1 << 20, 'x');
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(sys::send_all(qemu.get(), as_bytes(block), 5s).ok());
  ASSERT_TRUE(sys::send_all(qemu.get(), as_bytes("end"), 5s).ok());
  auto follow = std::move(hub.read(vm_, true)).value();
  for (std::string last; !last.ends_with("end");) {
    std::optional<std::string> chunk = follow->next();
    ASSERT_TRUE(chunk.has_value());
    if (!chunk->empty()) last = *chunk;
  }
  auto now = std::move(hub.read(vm_, false)).value();
  size_t kept = 0;
  while (std::optional<std::string> chunk = now->next()) kept += chunk->size();
  EXPECT_LE(kept, kConsoleBytesMax);
  EXPECT_GT(kept, kConsoleBytesMax / 2);
}

TEST_F(ConsoleTest, an_unknown_vm_is_an_error) {
  ConsoleHub hub;
  EXPECT_FALSE(hub.read(vm_, false).ok());
  EXPECT_FALSE(hub.write(vm_, "x").ok());
}

}  // namespace
}  // namespace hf::daemon
