// The client against a link that is not one: what a taken-over link could send. The real one is in
// link/link_process_test.cpp.
#include "peer/link_client.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <future>
#include <thread>

#include "crypto/x509.h"
#include "peer/link_protocol.h"
#include "sys/bounded_io.h"
#include "sys/system_clock.h"

namespace hf::peer {
namespace {

using namespace std::chrono_literals;

SiteId site_of(uint8_t number) {
  SiteId site;
  site.bytes[0] = std::byte{number};
  return site;
}

std::string ca_pem() {
  static const std::string pem = [] {
    const auto key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
    return crypto::make_ca(
               key, {.common_name = "ca", .now = sys::SystemClock().wall_time(), .valid_days = 10})
        .to_pem();
  }();
  return pem;
}

// Speaks the link's side by hand.
class FakeLink : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(dir_.data()), nullptr);
    auto listener = sys::listen_unix(path(), sys::SocketType::kSeqPacket);
    ASSERT_TRUE(listener.ok());
    listener_ = *std::move(listener);
  }
  void TearDown() override {
    client_.reset();
    ::unlink(path().c_str());
    ::rmdir(dir_.c_str());
  }
  std::string path() const { return dir_ + "/l"; }

  void start(LinkHandlers handlers = {}) {
    if (!handlers.issue_leaf)
      handlers.issue_leaf = [](const std::string&) { return Result<std::string>("leaf"); };
    client_ = LinkClient::start(
        {.socket_path = path(),
         .identity = {.site = site_of(1), .name = "a", .ca_pem = "ca"},
         .handlers = std::move(handlers)},
        {{.site = site_of(2), .name = "b", .ca_pem = ca_pem(), .address = "127.0.0.1:9"}});
  }
  void accept() {
    ASSERT_TRUE(*sys::wait_ready(listener_.get(), POLLIN, 5s));
    socket_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    send(LinkType::kIdentity, 0, sys::encode_json_text(Identity{.public_key_pem = "key"}));
    while (receive() != LinkType::kPeersEnd) ASSERT_FALSE(HasFatalFailure());
    send(LinkType::kConfigured, 0, "");
    ASSERT_TRUE(client_->wait_ready(5s).ok());
  }
  void send(LinkType type, uint64_t id, std::string_view body, uint8_t flags = 0) {
    ASSERT_TRUE(sys::send_message(socket_.get(),
                                  encode_link_message(type, id, as_bytes(body), flags), {}, 1s)
                    .ok());
  }
  LinkType receive() {
    auto message = sys::receive_message(socket_.get(), kLinkMessageMax, 5s);
    EXPECT_TRUE(message.ok() && !message->data.empty());
    if (!message.ok() || message->data.empty()) return LinkType::kPeersEnd;
    last_ = std::move(message->data);
    return decode_link_message(last_)->type;
  }
  uint64_t last_id() const { return decode_link_message(last_)->id; }
  // Until a message of that type.
  void receive_until(LinkType type) {
    for (int i = 0; i < 20 && receive() != type; ++i) {
    }
    ASSERT_EQ(decode_link_message(last_)->type, type);
  }
  // The client has closed the connection.
  bool dropped() {
    for (int i = 0; i < 50; ++i) {
      auto message = sys::receive_message(socket_.get(), kLinkMessageMax, 5s);
      if (!message.ok()) return message.error().code != ErrorCode::kTimeout;
      if (message->data.empty()) return true;
    }
    return false;
  }

  std::string dir_ = "/tmp/hf-link-XXXXXX";
  sys::UniqueFd listener_;
  sys::UniqueFd socket_;
  Bytes last_;
  std::unique_ptr<LinkClient> client_;
};

TEST_F(FakeLink, an_answer_that_is_longer_than_announced_ends_the_connection) {
  start();
  accept();
  auto call =
      std::async(std::launch::async, [&] { return client_->call(site_of(2), Bytes(10), 5s); });
  receive_until(LinkType::kAsk);
  const std::string announces_two("\x02\0\0\0a", 5);
  send(LinkType::kAnswer, last_id(), announces_two);
  send(LinkType::kAnswerMore, last_id(), "bcd");
  EXPECT_TRUE(dropped());
  EXPECT_FALSE(call.get().ok());
}

TEST_F(FakeLink, messages_that_do_not_decode_end_the_connection_and_nothing_else) {
  start();
  const std::pair<LinkType, std::string> bad[] = {
      {LinkType::kPeerState, "{}"},
      {LinkType::kAsk, "short"},
      {LinkType::kOpen, "short"},
      {LinkType::kPairUp, "{\"incoming\":true}"},
      {LinkType::kIdentity, "{\"version\":2,\"public_key_pem\":\"\"}"},
      {LinkType::kConfigure, ""},
      {LinkType::kPairMessage, std::string(20'000, 'x')},
  };
  for (const auto& [type, body] : bad) {
    accept();
    ASSERT_FALSE(HasFatalFailure());
    send(type, kLinkIdBit | 5, body);
    EXPECT_TRUE(dropped()) << static_cast<int>(type);
  }
  accept();  // and it connects again
}

TEST_F(FakeLink, answers_to_nothing_are_dropped) {
  start();
  accept();
  send(LinkType::kAnswer, 999, std::string("\x01\0\0\0a", 5));
  send(LinkType::kAnswerMore, 999, "a");
  send(LinkType::kOpened, 999, "");
  send(LinkType::kEnded, 999, "");
  send(LinkType::kPairMessage, 999, "x");
  send(LinkType::kCancel, 999, "");
  auto call =
      std::async(std::launch::async, [&] { return client_->call(site_of(2), Bytes(1), 5s); });
  receive_until(LinkType::kAsk);
  send(LinkType::kAnswer, last_id(), std::string("\x01\0\0\0z", 5));
  const Result<Bytes> answer = call.get();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(as_text(*answer), "z");
}

TEST_F(FakeLink, a_call_that_nobody_answers_ends_at_its_limit_and_is_cancelled) {
  start();
  accept();
  const auto begun = std::chrono::steady_clock::now();
  const Result<Bytes> answer = client_->call(site_of(2), Bytes(1), 100ms);
  EXPECT_EQ(answer.error().code, ErrorCode::kTimeout);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 3s);
  receive_until(LinkType::kAsk);
  const uint64_t id = last_id();
  receive_until(LinkType::kCancel);
  EXPECT_EQ(last_id(), id);
}

TEST_F(FakeLink, more_questions_than_workers_are_told_so) {
  std::atomic<bool> go = false;
  start({.on_request = [&](SiteId, ByteSpan, Millis) -> Result<Bytes> {
    while (!go) std::this_thread::sleep_for(1ms);
    return Bytes();
  }});
  accept();
  const Bytes site = encode_site(site_of(2));
  std::string ask(as_text(site));
  ask += std::string("\0\0\0\0\x10\x27\0\0", 8);
  for (uint64_t i = 0; i < 80; ++i) send(LinkType::kAsk, kLinkIdBit | (i + 1), ask);
  // Four are at work and 64 wait; the others were answered at once.
  receive_until(LinkType::kAnswer);
  EXPECT_EQ(decode_error_body(decode_link_message(last_)->body).error.code, ErrorCode::kLimit);
  go = true;
  client_.reset();  // its workers look at `go` until they have ended
}

// A link that says of a question what it was told to say.
TEST_F(FakeLink, what_was_never_asked_is_told_from_what_may_have_been_done) {
  start();
  accept();
  auto ask = [&](Delivery& delivery, Millis limit) {
    return std::async(std::launch::async, [this, &delivery, limit] {
      return client_->call(site_of(2), Bytes(1), limit, &delivery);
    });
  };
  const Bytes gone = encode_error_body(
      {.error = {.code = ErrorCode::kUnavailable, .cause = "it was not reached"}});
  Delivery delivery{.within = 50ms};
  auto call = ask(delivery, 20s);
  receive_until(LinkType::kGiveUp);
  send(LinkType::kAnswer, last_id(), as_text(gone), kFlagError | kFlagUnheard);
  EXPECT_EQ(call.get().error().cause, "it was not reached");
  EXPECT_TRUE(delivery.unheard);
  // An error of the same code that the other site's daemon gave.
  call = ask(delivery, 20s);
  receive_until(LinkType::kAsk);
  send(LinkType::kAnswer, last_id(), as_text(gone), kFlagError);
  EXPECT_EQ(call.get().error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(delivery.unheard);
  // Its time is over: the link says whether it had left, …
  delivery.within = kQuestionLimitMax;
  for (const uint8_t flags : {kFlagError, static_cast<uint8_t>(kFlagError | kFlagUnheard)}) {
    call = ask(delivery, 50ms);
    receive_until(LinkType::kCancel);
    send(LinkType::kAnswer, last_id(), as_text(gone), flags);
    const Error error = call.get().error();
    EXPECT_EQ(delivery.unheard, (flags & kFlagUnheard) != 0);
    EXPECT_EQ(error.code, delivery.unheard ? ErrorCode::kUnavailable : ErrorCode::kTimeout);
  }
  // … and where it does not, or dies, nobody knows.
  EXPECT_EQ(ask(delivery, 50ms).get().error().code, ErrorCode::kTimeout);
  EXPECT_FALSE(delivery.unheard);
  receive_until(LinkType::kCancel);
  call = ask(delivery, 20s);
  receive_until(LinkType::kAsk);
  socket_.reset();
  EXPECT_EQ(call.get().error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(delivery.unheard);
  // Without a link nothing is sent.
  EXPECT_FALSE(ask(delivery, 20ms).get().ok());
  EXPECT_TRUE(delivery.unheard);
}

// Questions of other sites: "long" ones are at work until the test says so.
class AskedLink : public FakeLink {
 protected:
  void SetUp() override {
    FakeLink::SetUp();
    if (HasFatalFailure()) return;
    start({.on_request = [this](SiteId, ByteSpan request, Millis) -> Result<Bytes> {
             ++at_work_;
             while (as_text(request).starts_with("long") && !go_) std::this_thread::sleep_for(1ms);
             return Bytes(request.begin(), request.end());
           },
           .lane_of =
               [](ByteSpan request) {
                 if (as_text(request) == "short") return Lane::kShort;
                 return as_text(request).ends_with("order") ? Lane::kOrder : Lane::kLong;
               }});
    accept();
  }
  void TearDown() override {
    go_ = true;
    FakeLink::TearDown();
  }
  void ask(uint64_t id, uint8_t site, std::string_view text, uint32_t limit_ms = 10'000) {
    Bytes body = encode_site(site_of(site));
    const Bytes frame = encode_ask(1, {.total = static_cast<uint32_t>(text.size()),
                                       .limit_ms = limit_ms,
                                       .part = as_bytes(text)});
    body.insert(body.end(), frame.begin() + kFrameHeaderSize, frame.end());
    send(LinkType::kAsk, kLinkIdBit | id, as_text(body));
  }
  bool at_work(size_t count) {
    for (int i = 0; i < 2000 && at_work_ < count; ++i) std::this_thread::sleep_for(1ms);
    return at_work_ == count;
  }

  std::atomic<bool> go_ = false;
  std::atomic<size_t> at_work_ = 0;
};

TEST_F(AskedLink, questions_wait_for_those_of_their_lane_only) {
  for (uint64_t id = 1; id <= 30; ++id) ask(id, static_cast<uint8_t>(2 + id % 3), "long");
  EXPECT_TRUE(at_work(kLongWorkers));
  ask(100, 2, "order");
  receive_until(LinkType::kAnswer);
  EXPECT_EQ(last_id(), kLinkIdBit | 100) << "a stop does not wait for an offer";
  for (uint64_t id = 31; id <= 60; ++id) ask(id, static_cast<uint8_t>(2 + id % 3), "long order");
  EXPECT_TRUE(at_work(kLongWorkers + 1 + kOrderWorkers));
  ask(101, 2, "short");
  receive_until(LinkType::kAnswer);
  EXPECT_EQ(last_id(), kLinkIdBit | 101) << "and an epoch for neither";
}

TEST_F(AskedLink, a_site_that_asks_much_does_not_hold_up_another) {
  for (uint64_t id = 1; id <= 30; ++id) ask(id, 2, "long");
  EXPECT_TRUE(at_work(4)) << "two thirds of six";
  ask(100, 3, "other");
  receive_until(LinkType::kAnswer);
  EXPECT_EQ(last_id(), kLinkIdBit | 100);
  go_ = true;
  for (int i = 0; i < 30; ++i) {
    receive_until(LinkType::kAnswer);
    EXPECT_EQ(decode_link_message(last_)->flags, 0) << i;
  }
}

TEST_F(AskedLink, what_is_cancelled_gives_its_place_back_undone) {
  for (uint64_t id = 1; id <= 4; ++id) ask(id, 2, "long");
  EXPECT_TRUE(at_work(4));
  // The link lets a site have 32 unanswered; what it cancels is none of them any more.
  for (uint64_t id = 1000; id < 3000; ++id) {
    ask(id, 2, "long");
    send(LinkType::kCancel, kLinkIdBit | id, "");
  }
  ask(100, 3, "other");
  receive_until(LinkType::kAnswer);
  EXPECT_EQ(last_id(), kLinkIdBit | 100);
  EXPECT_EQ(decode_link_message(last_)->flags, 0) << "another site's has a place";
  ask(101, 2, "own");
  go_ = true;
  for (int i = 0; i < 5; ++i) {
    receive_until(LinkType::kAnswer);
    EXPECT_EQ(decode_link_message(last_)->flags, 0) << last_id();
  }
  EXPECT_EQ(at_work_, 6U) << "and none that was cancelled is done";
}

TEST_F(AskedLink, one_site_takes_not_all_places) {
  for (uint64_t id = 1; id <= 4; ++id) ask(id, 2, "long");
  EXPECT_TRUE(at_work(4));
  for (uint64_t id = 1000; id < 1080; ++id) ask(id, 2, "long");
  ask(100, 3, "other");
  size_t refused = 0;
  for (receive_until(LinkType::kAnswer); last_id() != (kLinkIdBit | 100) && refused < 80;
       receive_until(LinkType::kAnswer)) {
    EXPECT_EQ(decode_link_message(last_)->flags, kFlagError | kFlagUnheard);
    ++refused;
  }
  EXPECT_EQ(last_id(), kLinkIdBit | 100);
  EXPECT_EQ(decode_link_message(last_)->flags, 0) << "another site's has a place";
  EXPECT_EQ(refused, 80U - 64);
}

TEST_F(AskedLink, what_waits_when_the_link_goes_is_not_done) {
  for (uint64_t id = 1; id <= 20; ++id) ask(id, 2, "long");
  EXPECT_TRUE(at_work(4));
  socket_.reset();
  accept();  // it has learned that, and connects again
  go_ = true;
  ask(100, 2, "other");
  receive_until(LinkType::kAnswer);
  EXPECT_EQ(last_id(), kLinkIdBit | 100);
  EXPECT_EQ(at_work_, 5U);
}

TEST_F(AskedLink, what_waited_for_longer_than_its_asker_is_not_done) {
  for (uint64_t id = 1; id <= 4; ++id) ask(id, 2, "long");
  EXPECT_TRUE(at_work(4));
  ask(100, 2, "late", 30);
  std::this_thread::sleep_for(60ms);
  go_ = true;
  uint8_t flags = 0;
  for (int i = 0; i < 5; ++i) {
    receive_until(LinkType::kAnswer);
    if (last_id() == (kLinkIdBit | 100)) flags = decode_link_message(last_)->flags;
  }
  EXPECT_EQ(flags, kFlagError | kFlagUnheard);
  EXPECT_EQ(at_work_, 4U);
}

TEST_F(FakeLink, a_stream_that_was_given_up_is_not_asked_for) {
  std::promise<void> go;
  std::atomic<size_t> asked = 0;
  start({.on_stream_asked = [&, gate = go.get_future().share()](const StreamAsk&) -> StreamReply {
    ++asked;
    gate.wait();
    return {.keeper = {}, .refusal = StreamRefusal{.error = {.cause = "no"}}};
  }});
  accept();
  auto open = [&](uint64_t id, uint8_t site) {
    send(LinkType::kOpen, kLinkIdBit | id,
         as_text(encode_open_body({.site = site_of(site), .vm = VmId()})));
  };
  for (uint64_t id = 1; id <= 2; ++id) open(id, 2);  // all the workers that one site has
  for (int i = 0; i < 2000 && asked < 2; ++i) std::this_thread::sleep_for(1ms);
  for (uint64_t id = 1000; id < 4000; ++id) {
    open(id, 2);
    send(LinkType::kEnded, kLinkIdBit | id, "");
  }
  open(100, 3);
  for (int i = 0; i < 2000 && asked < 3; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(asked, 3U) << "another site's";
  go.set_value();
  for (int i = 0; i < 3; ++i) receive_until(LinkType::kRefuse);
  EXPECT_EQ(asked, 3U);
}

TEST_F(FakeLink, when_the_link_goes_streams_end_and_calls_fail) {
  std::promise<StreamEvent> ended;
  start({.on_stream = [&](const StreamEvent& event) { ended.set_value(event); }});
  accept();
  sys::SocketPair pair = *sys::socket_pair(sys::SocketType::kStream);
  const auto id = client_->open_stream(site_of(2), VmId(), std::move(pair.first));
  ASSERT_TRUE(id.ok());
  auto call =
      std::async(std::launch::async, [&] { return client_->call(site_of(2), Bytes(1), 20s); });
  receive_until(LinkType::kAsk);
  socket_.reset();
  EXPECT_EQ(call.get().error().code, ErrorCode::kUnavailable);
  const StreamEvent event = ended.get_future().get();
  EXPECT_EQ(event.id, *id);
  EXPECT_EQ(event.kind, StreamEvent::Kind::kEnded);
  EXPECT_TRUE(event.error.has_value());
  accept();
}

TEST_F(FakeLink, without_a_certificate_it_is_not_ready_and_says_why) {
  start({.issue_leaf = [](const std::string&) -> Result<std::string> {
    return Error{.code = ErrorCode::kUnavailable, .cause = "the vault sleeps"};
  }});
  ASSERT_TRUE(*sys::wait_ready(listener_.get(), POLLIN, 5s));
  socket_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  send(LinkType::kIdentity, 0, sys::encode_json_text(Identity{.public_key_pem = "key"}));
  EXPECT_TRUE(dropped());
  const Status ready = client_->wait_ready(50ms);
  ASSERT_FALSE(ready.ok());
  EXPECT_NE(ready.error().cause.find("the vault sleeps"), std::string::npos) << ready.error().cause;
}

}  // namespace
}  // namespace hf::peer
