#include "control/http/http_server.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "sys/bounded_io.h"
#include "sys/unix_socket.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    char pattern[] = "/tmp/hf-http-XXXXXX";
    dir_ = mkdtemp(pattern);
    path_ = dir_ + "/api.sock";
  }
  ~HttpServerTest() override {
    if (server_) server_->stop();
    if (thread_.joinable()) thread_.join();
    server_.reset();
    std::filesystem::remove_all(dir_);
  }

  void start(HttpServerOptions options) {
    auto listener = std::move(sys::listen_unix(path_, sys::SocketType::kStream)).value();
    server_ = std::make_unique<HttpServer>(std::move(listener), router_, std::move(options));
    thread_ = std::thread([this] { server_->run(); });
  }
  // Sends the text as it is; all that comes until the server closes or half a second passes.
  std::string talk(std::string_view text) {
    auto socket = std::move(sys::connect_unix_within(path_, 1s)).value();
    static_cast<void>(sys::send_all(socket.get(), as_bytes(text), 2s));
    std::string all;
    for (;;) {
      std::byte buffer[4096];
      Result<size_t> got = sys::receive_some(socket.get(), buffer, 500ms);
      if (!got.ok() || *got == 0) return all;
      all += as_text(ByteSpan(buffer, *got));
    }
  }

  Result<Response> news(bool asked_before) {
    uint64_t seen = changed_->version();
    if (value_ > 0 || asked_before)
      return Response::json(sys::JsonObject{{"value", value_.load()}});
    return Response::later(
        {.changed = changed_, .seen = seen, .limit = 10s, .again = [this] { return news(true); }});
  }

  struct Count final : BodyStream {
    std::optional<std::string> next() override {
      return ++at <= 3 ? std::optional<std::string>(std::to_string(at)) : std::nullopt;
    }
    int at = 0;
  };

  std::string dir_;
  std::string path_;
  std::shared_ptr<Notice> changed_ = std::make_shared<Notice>();
  std::atomic<int> value_ = 0;
  Router router_{{{Method::kPost, "/echo", Role::kOwner,
                   [](const Request& request) -> Result<Response> {
                     return Response::json(
                         sys::JsonObject{{"size", request.body.size()}, {"actor", request.actor}});
                   }},
                  {Method::kGet, "/news", Role::kOwner,
                   [this](const Request&) -> Result<Response> { return news(false); }},
                  {Method::kGet, "/count", Role::kOwner, [](const Request&) -> Result<Response> {
                     Response response;
                     response.stream = std::make_unique<Count>();
                     return response;
                   }}}};
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

TEST_F(HttpServerTest, answers_and_keeps_the_connection) {
  start({.owner_uids = {::getuid()}});
  std::string request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
  std::string answer = talk(request + request);
  size_t first = answer.find("200 OK");
  ASSERT_NE(first, std::string::npos) << answer;
  EXPECT_NE(answer.find("200 OK", first + 1), std::string::npos) << answer;
  EXPECT_NE(answer.find("\"size\":2"), std::string::npos) << answer;
  EXPECT_NE(answer.find("uid " + std::to_string(::getuid())), std::string::npos) << answer;
}

TEST_F(HttpServerTest, another_user_is_refused_with_a_reason) {
  start({.owner_uids = {::getuid() + 1}});
  std::string answer = talk("GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(answer.find("403"), std::string::npos) << answer;
  EXPECT_NE(answer.find("\"mend\""), std::string::npos) << answer;
}

TEST_F(HttpServerTest, who_is_in_the_group_is_let_in_whatever_his_own_group_is) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to have groups";
  constexpr gid_t kOperators = 64'123;
  start({.owner_uids = {::getuid() + 1}, .owner_gids = {kOperators}});
  // The system call itself is a thread's alone.
  const auto talk_in_groups = [&](std::vector<gid_t> groups) {
    std::string answer;
    std::thread([&] {
      HF_ASSERT(::syscall(SYS_setgroups, groups.size(), groups.data()) == 0);
      answer = talk("GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
    }).join();
    return answer;
  };
  const std::string other = talk_in_groups({kOperators + 1});
  EXPECT_NE(other.find("403"), std::string::npos) << other;
  EXPECT_NE(other.find("holdfast-operators"), std::string::npos) << other;
  std::vector<gid_t> many(500, kOperators + 1);
  many.push_back(kOperators);
  for (const auto& groups : {std::vector<gid_t>{kOperators}, many}) {
    const std::string answer = talk_in_groups(groups);
    EXPECT_NE(answer.find("200 OK"), std::string::npos) << answer;
  }
}

TEST_F(HttpServerTest, a_body_or_header_beyond_the_limit_is_refused) {
  start({.owner_uids = {::getuid()}, .body_bytes_max = 1000, .header_bytes_max = 1000});
  EXPECT_NE(talk("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n").find(" 413 "),
            std::string::npos);
  EXPECT_NE(talk("POST /echo HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n").find(" 413 "),
            std::string::npos);
}

TEST_F(HttpServerTest, a_stream_is_sent_in_chunks_to_its_end) {
  start({.owner_uids = {::getuid()}});
  std::string answer = talk("GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(answer.find("\r\n1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n"), std::string::npos)
      << answer;
}

TEST_F(HttpServerTest, many_that_wait_hold_no_thread) {
  start({.owner_uids = {::getuid()}, .handler_threads = 2});
  std::vector<sys::UniqueFd> waiting;
  for (int i = 0; i < 200; ++i) {
    waiting.push_back(std::move(sys::connect_unix_within(path_, 1s)).value());
    ASSERT_TRUE(
        sys::send_all(waiting.back().get(), as_bytes("GET /news HTTP/1.1\r\nHost: x\r\n\r\n"), 1s)
            .ok());
  }
  std::string echo = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
  EXPECT_NE(talk(echo).find("200 OK"), std::string::npos);
  value_ = 7;
  changed_->tell();
  for (const sys::UniqueFd& socket : waiting) {
    std::byte buffer[1024];
    Result<size_t> got = sys::receive_some(socket.get(), buffer, 5s);
    ASSERT_TRUE(got.ok());
    EXPECT_NE(as_text(ByteSpan(buffer, *got)).find("\"value\":7"), std::string::npos);
  }
}

TEST_F(HttpServerTest, a_client_that_says_nothing_is_dropped) {
  start({.owner_uids = {::getuid()}, .idle_seconds_max = 1});
  auto socket = std::move(sys::connect_unix_within(path_, 1s)).value();
  std::byte byte[1];
  Result<size_t> got = sys::receive_some(socket.get(), byte, 5s);
  EXPECT_TRUE(!got.ok() || *got == 0);
  EXPECT_TRUE(got.ok() || got.error().code != ErrorCode::kTimeout);
}

TEST_F(HttpServerTest, nonsense_ends_the_connection_and_not_the_server) {
  start({.owner_uids = {::getuid()}});
  talk("\x16\x03\x01 this is not HTTP\r\n\r\n");
  EXPECT_NE(talk("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").find(" 404 "), std::string::npos);
}

}  // namespace
}  // namespace hf::control
