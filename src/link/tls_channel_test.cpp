// A channel against TLS by hand: whatever comes, a turn takes so much of it and no more, and
// nothing is lost by that.
#include "link/tls_channel.h"

#include <sys/ioctl.h>

#include "link/testing_tls.h"

namespace hf::link::testing {
namespace {

using Step = TlsChannel::Step;

class Channel : public ::testing::Test {
 protected:
  void SetUp() override {
    const Authority ours(1);
    const auto key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
    const TlsIdentity identity =
        std::move(TlsIdentity::make(key, ours.issue(key.public_key()), ours.ca)).value();
    sys::SocketPair pair = std::move(sys::socket_pair(sys::SocketType::kStream)).value();
    for (const sys::UniqueFd* fd : {&pair.first, &pair.second})
      ASSERT_TRUE(sys::set_nonblocking(fd->get(), true).ok());
    channel_ = TlsChannel::server(identity, std::move(pair.first));
    client_.emplace(Authority(2), std::move(pair.second), peer::kAlpnPairing);
  }
  void shake_hands() {
    for (int i = 0; i < 20 && !(client_->done() && established_); ++i) {
      client_->send_some(client_->advance());
      advance();
    }
    ASSERT_TRUE(client_->done() && established_);
  }
  void advance() {
    const auto step = channel_->handshake();
    ASSERT_TRUE(step.ok()) << step.error().describe();
    established_ |= *step == Step::kDone;
  }
  // Reads until there is something else; the calls that brought bytes.
  size_t read(Bytes& into, Step& ended_by) {
    std::byte buffer[4096];
    for (size_t calls = 0;; ++calls) {
      const auto moved = channel_->read(buffer);
      EXPECT_TRUE(moved.ok()) << moved.error().describe();
      ended_by = moved.ok() ? moved->step : Step::kClosed;
      if (ended_by != Step::kDone) return calls;
      into.insert(into.end(), buffer, buffer + moved->bytes);
    }
  }
  int unread() const {
    int bytes = 0;
    ::ioctl(channel_->fd(), FIONREAD, &bytes);
    return bytes;
  }
  // `data` in records of a byte: so many of them a turn, and in the end all.
  void expect_turns(const Bytes& data, size_t records_a_turn) {
    Bytes sent = client_->records(data, 1);
    Bytes got;
    size_t turns = 0;
    for (ByteSpan left = sent; got.size() < data.size() && turns < data.size(); ++turns) {
      left = left.subspan(client_->send_some(left));
      Step ended_by = Step::kDone;
      ASSERT_LE(read(got, ended_by), records_a_turn);
      ASSERT_TRUE(ended_by == Step::kYield || unread() == 0) << "else it would never go on";
    }
    EXPECT_EQ(got, data);
    EXPECT_GE(turns, data.size() / records_a_turn);
  }

  std::unique_ptr<TlsChannel> channel_;
  std::optional<RawTls> client_;
  bool established_ = false;
};

TEST_F(Channel, records_of_a_byte_are_taken_a_few_a_turn) {
  ASSERT_NO_FATAL_FAILURE(shake_hands());
  expect_turns(pattern(3000, 1), 40);
}

TEST_F(Channel, a_paired_sites_are_too_also_from_a_larger_read) {
  ASSERT_NO_FATAL_FAILURE(shake_hands());
  channel_->trust();
  expect_turns(pattern(9000, 2), 1100);
}

TEST_F(Channel, a_paired_sites_full_records_come_by_the_dozen) {
  ASSERT_NO_FATAL_FAILURE(shake_hands());
  channel_->trust();
  const Bytes data = pattern(100'000, 3);
  ASSERT_EQ(client_->send_some(client_->records(data, 16'384)) > data.size(), true);
  Bytes got;
  Step ended_by = Step::kDone;
  read(got, ended_by);
  EXPECT_EQ(ended_by, Step::kBlocked) << "in one turn";
  EXPECT_EQ(got, data);
}

TEST_F(Channel, a_handshake_in_crumbs_takes_its_turns_and_succeeds) {
  // The client's hello, each byte of it in a record of its own.
  const Bytes hello = client_->advance();
  const size_t header = 5;
  Bytes crumbs;
  for (size_t at = header; at < hello.size(); ++at) {
    crumbs.insert(crumbs.end(), hello.begin(), hello.begin() + 3);
    for (const std::byte byte : {std::byte{0}, std::byte{1}, hello[at]}) crumbs.push_back(byte);
  }
  ASSERT_EQ(client_->send_some(crumbs), crumbs.size());
  size_t turns = 0;
  for (; unread() > 0 && turns < 100; ++turns) ASSERT_NO_FATAL_FAILURE(advance());
  EXPECT_GE(turns, 5U) << "all in one turn";
  shake_hands();
}

TEST_F(Channel, key_updates_are_few) {
  ASSERT_NO_FATAL_FAILURE(shake_hands());
  const Bytes data = pattern(100, 1);
  Bytes first = client_->key_updates(5);
  const Bytes records = client_->records(data, data.size());
  first.insert(first.end(), records.begin(), records.end());
  ASSERT_EQ(client_->send_some(first), first.size());
  Bytes got;
  for (int turn = 0; turn < 5 && got.size() < data.size(); ++turn) {
    Step ended_by = Step::kDone;
    read(got, ended_by);
  }
  EXPECT_EQ(got, data);
  ASSERT_GT(client_->send_some(client_->key_updates(1000)), 10'000U);
  std::byte buffer[100];
  Result<TlsChannel::Moved> moved = TlsChannel::Moved{};
  for (int turn = 0; turn < 10 && moved.ok(); ++turn) moved = channel_->read(buffer);
  ASSERT_FALSE(moved.ok());
  EXPECT_EQ(moved.error().code, ErrorCode::kCorrupt);
  EXPECT_GT(unread(), 10'000) << "it goes through all of them before it says so";
}

// One larger read brings hundreds of them.
TEST_F(Channel, key_updates_of_a_paired_site_are_too) {
  ASSERT_NO_FATAL_FAILURE(shake_hands());
  channel_->trust();
  const Bytes updates = client_->key_updates(1000);
  ASSERT_EQ(client_->send_some(updates), updates.size());
  std::byte buffer[100];
  const auto moved = channel_->read(buffer);
  ASSERT_FALSE(moved.ok());
  EXPECT_EQ(moved.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace hf::link::testing
