#include "launcher/protocol/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>
#include <list>

#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    sys::SocketPair pair = std::move(sys::socket_pair(sys::SocketType::kSeqPacket)).value();
    launcher_ = std::move(pair.first);
    int small = 1;  // the kernel's least
    HF_ASSERT(::setsockopt(pair.second.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    client_ = std::make_unique<Client>(std::move(pair.second), nullptr, nullptr);
  }

  Request read_request() {
    auto message = sys::receive_message(launcher_.get(), kMessageBytesMax, milliseconds(5000));
    HF_ASSERT(message.ok());
    return std::move(decode_request(as_text(message->data))).value();
  }
  void reply(const Reply& reply) {
    ASSERT_TRUE(
        sys::send_message(launcher_.get(), as_bytes(encode(reply)), {}, milliseconds(5000)).ok());
  }
  std::future<Status> ask_stop(milliseconds limit) {
    return std::async(std::launch::async,
                      [this, limit] { return client_->stop({.unit = "keeper-1"}, limit); });
  }

  sys::UniqueFd launcher_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, an_answer_arrives_while_another_question_cannot_be_sent) {
  std::future<Status> first = ask_stop(milliseconds(10'000));
  const uint64_t id = read_request().id;
  // More than the socket takes: the last of them wait for a launcher that does not read.
  std::list<std::future<Status>> others;
  for (int i = 0; i < 30; ++i) others.push_back(ask_stop(milliseconds(8'000)));
  std::this_thread::sleep_for(milliseconds(300));
  reply({.id = id});
  ASSERT_EQ(first.wait_for(milliseconds(4'000)), std::future_status::ready);
  EXPECT_TRUE(first.get().ok());
  launcher_.reset();
  for (std::future<Status>& other : others) {
    EXPECT_EQ(other.get().error().code, ErrorCode::kUnavailable);
  }
}

TEST_F(ClientTest, a_launcher_that_repeats_itself_is_not_asked_for_ever) {
  std::future<ErrorCode> asked = std::async(std::launch::async, [this] {
    auto status = client_->status(milliseconds(5'000));
    return status.ok() ? ErrorCode::kInternal : status.error().code;
  });
  for (int i = 0; i < 2; ++i) {
    reply({.id = read_request().id, .units = {{.unit = "keeper-1", .pid = 5}}, .more = true});
  }
  EXPECT_EQ(asked.get(), ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace hf::launcher
