#include "sys/bounded_io.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace hf::sys {
namespace {

using std::chrono::milliseconds;

TEST(BoundedIo, descriptors_travel_with_their_message) {
  auto pair = socket_pair(SocketType::kSeqPacket);
  ASSERT_TRUE(pair.ok());
  auto memory = sealed_memfd("config", as_bytes("hello"));
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE(
      send_message(pair->first.get(), as_bytes("with fd"), {memory->get()}, milliseconds(100))
          .ok());
  auto message = receive_message(pair->second.get(), 64, milliseconds(100));
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(as_text(message->data), "with fd");
  ASSERT_EQ(message->fds.size(), 1u);
  EXPECT_EQ(as_text(*read_all(message->fds[0].get(), 5)), "hello");
}

TEST(BoundedIo, waits_are_bounded_and_a_closed_peer_is_told_apart) {
  auto pair = socket_pair(SocketType::kSeqPacket);
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(receive_message(pair->second.get(), 64, milliseconds(20)).error().code,
            ErrorCode::kTimeout);
  ASSERT_TRUE(send_message(pair->first.get(), as_bytes("too long"), {}, milliseconds(100)).ok());
  EXPECT_EQ(receive_message(pair->second.get(), 4, milliseconds(20)).error().code,
            ErrorCode::kLimit);
  pair->first.reset();
  auto end = receive_message(pair->second.get(), 64, milliseconds(100));
  ASSERT_TRUE(end.ok());
  EXPECT_TRUE(end->data.empty());
  EXPECT_EQ(send_message(pair->second.get(), as_bytes("x"), {}, milliseconds(20)).error().code,
            ErrorCode::kUnavailable);
}

TEST(BoundedIo, a_writer_whose_peer_does_not_read_gives_up) {
  auto pair = socket_pair(SocketType::kStream);
  ASSERT_TRUE(pair.ok());
  Bytes much(size_t{8} << 20);
  EXPECT_EQ(send_all(pair->first.get(), much, milliseconds(30)).error().code, ErrorCode::kTimeout);
}

TEST(BoundedIo, connecting_gives_up_when_nobody_accepts) {
  std::string dir = "/tmp/hf-io-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  std::string path = dir + "/s";
  EXPECT_EQ(connect_unix_within(path, milliseconds(20)).error().code, ErrorCode::kUnavailable);
  auto listener = listen_unix(path, SocketType::kStream);
  ASSERT_TRUE(listener.ok());
  std::vector<UniqueFd> connections;
  ErrorCode code = ErrorCode::kInternal;
  for (int i = 0; i < 200 && code == ErrorCode::kInternal; ++i) {
    auto connection = connect_unix_within(path, milliseconds(20));
    if (connection.ok()) {
      connections.push_back(std::move(*connection));
    } else {
      code = connection.error().code;
    }
  }
  EXPECT_EQ(code, ErrorCode::kTimeout);
  EXPECT_FALSE(connections.empty());
  ::unlink(path.c_str());
  ::rmdir(dir.c_str());
}

TEST(BoundedIo, connecting_follows_no_link_to_another_socket) {
  std::string dir = "/tmp/hf-io-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  std::filesystem::create_directory(dir + "/mine");
  std::filesystem::create_directory(dir + "/other");
  auto listener = listen_unix(dir + "/other/qmp.sock", SocketType::kStream);
  ASSERT_TRUE(listener.ok());
  std::filesystem::create_symlink("../other/qmp.sock", dir + "/mine/qmp.sock");
  std::filesystem::create_symlink("other", dir + "/link");
  std::ofstream(dir + "/mine/file") << "no socket";
  for (const char* name : {"/mine/qmp.sock", "/link/qmp.sock", "/mine/file"}) {
    auto connected = connect_unix_within(dir + name, milliseconds(100));
    ASSERT_FALSE(connected.ok()) << name;
    EXPECT_EQ(connected.error().code, ErrorCode::kPermission) << connected.error().describe();
  }
  EXPECT_TRUE(connect_unix_within(dir + "/other/qmp.sock", milliseconds(100)).ok());
  std::filesystem::remove_all(dir);
}

TEST(BoundedIo, a_path_longer_than_a_socket_address_is_reached) {
  std::string dir = "/tmp/hf-io-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  auto listener = listen_unix(dir + "/s", SocketType::kStream);
  ASSERT_TRUE(listener.ok());
  std::string deep = dir + "/" + std::string(120, 'd');
  std::filesystem::create_directory(deep);
  std::filesystem::rename(dir + "/s", deep + "/s");
  EXPECT_TRUE(connect_unix_within(deep + "/s", milliseconds(100)).ok());
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace hf::sys
