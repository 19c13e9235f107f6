#include "control/host/console.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <thread>

#include "sys/bounded_io.h"
#include "sys/unix_socket.h"

namespace hf::control {
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
    for (int i = 0; i < 400 && all.find(wanted) == std::string::npos; ++i) {
      std::optional<std::string> chunk = stream.next();
      if (!chunk) break;
      if (chunk->empty()) std::this_thread::sleep_for(10ms);
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

TEST_F(ConsoleTest, one_that_hangs_up_at_once_is_called_ever_more_slowly) {
  ConsoleHub hub;
  hub.attach(vm_, path_, ConsoleStart::kFresh);
  ::timeval limit{.tv_sec = 0, .tv_usec = 50'000};
  ASSERT_EQ(::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  int calls = 0;
  const auto end = std::chrono::steady_clock::now() + 1500ms;
  while (std::chrono::steady_clock::now() < end) {
    sys::UniqueFd qemu = accept();
    if (!qemu) continue;
    ++calls;
    static_cast<void>(sys::send_all(qemu.get(), as_bytes("x"), 1s));
  }
  EXPECT_GE(calls, 3);
  EXPECT_LE(calls, 10);
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

TEST_F(ConsoleTest, several_threads_may_detach_a_console_at_once) {
  ConsoleHub hub;
  for (int round = 0; round < 20; ++round) {
    hub.attach(vm_, path_, ConsoleStart::kFresh);
    sys::UniqueFd qemu = accept();
    ASSERT_TRUE(sys::send_all(qemu.get(), as_bytes("up\n"), 1s).ok());
    auto stream = std::move(hub.read(vm_, true)).value();
    EXPECT_EQ(read_until(*stream, "up\n"), "up\n");
    std::vector<std::thread> enders;
    for (int i = 0; i < 4; ++i) enders.emplace_back([&] { hub.detach(vm_); });
    for (std::thread& ender : enders) ender.join();
    auto after = std::move(hub.read(vm_, false)).value();
    EXPECT_EQ(read_until(*after, "up\n"), "up\n") << "what was said stays readable";
  }
}

TEST_F(ConsoleTest, two_who_end_it_at_once_both_return) {
  ConsoleHub hub;
  for (int round = 0; round < 50; ++round) {
    hub.attach(vm_, path_, ConsoleStart::kFresh);
    sys::UniqueFd qemu = accept();
    std::thread other([&] { hub.detach(vm_); });
    hub.detach(vm_);
    other.join();
    // Its connection is closed: the next QEMU's console takes one client only.
    std::byte byte[1];
    Result<size_t> got = sys::receive_some(qemu.get(), byte, 5s);
    ASSERT_TRUE(got.ok() && *got == 0);
  }
}

TEST_F(ConsoleTest, who_follows_is_told_of_news_and_of_the_end) {
  ConsoleHub hub;
  hub.attach(vm_, path_, ConsoleStart::kFresh);
  sys::UniqueFd qemu = accept();
  auto stream = std::move(hub.read(vm_, true)).value();
  uint64_t seen = stream->changed()->version();
  EXPECT_EQ(stream->next(), "");
  ASSERT_TRUE(sys::send_all(qemu.get(), as_bytes("x"), 1s).ok());
  std::promise<void> news;
  stream->changed()->subscribe(seen, [&] { news.set_value(); });
  ASSERT_EQ(news.get_future().wait_for(5s), std::future_status::ready);
  EXPECT_EQ(stream->next(), "x");
  hub.detach(vm_);
  EXPECT_EQ(stream->next(), std::nullopt);
}

TEST_F(ConsoleTest, an_unknown_vm_is_an_error) {
  ConsoleHub hub;
  EXPECT_FALSE(hub.read(vm_, false).ok());
  EXPECT_FALSE(hub.write(vm_, "x").ok());
}

}  // namespace
}  // namespace hf::control
