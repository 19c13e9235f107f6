// Sites whose clocks are wrong: real holdfast-link processes; a wrong clock shows in the dates that
// it writes into certificates, and in what a site tells of its time.
#include "link/testing.h"

namespace hf::link::testing {
namespace {

using peer::FrameType;
using peer::Reach;

constexpr int64_t kSecondUs = 1'000'000;
constexpr int64_t kDayUs = 86'400 * kSecondUs;

Micros wall_and(int64_t more_us) {
  return Micros(static_cast<uint64_t>(static_cast<int64_t>(wall_now().value) + more_us));
}

class WrongClock : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ::signal(SIGPIPE, SIG_IGN); }
  bool both_ways() {
    const Result<Bytes> there = a_.client->call(b_.authority.id, Bytes(1), 10s);
    EXPECT_TRUE(there.ok()) << there.error().describe();
    const Result<Bytes> back = b_.client->call(a_.authority.id, Bytes(1), 10s);
    EXPECT_TRUE(back.ok()) << back.error().describe();
    return there.ok() && back.ok();
  }
  std::optional<int64_t> wait_clock(SiteId site, bool known = true) {
    const auto end = std::chrono::steady_clock::now() + 10s;
    for (;;) {
      const std::optional<int64_t> ahead = a_.record.state(site).clock_ahead_us;
      if (ahead.has_value() == known || std::chrono::steady_clock::now() > end) return ahead;
      std::this_thread::sleep_for(10ms);
    }
  }
  Site a_{1};
  Site b_{2};
};

TEST_F(WrongClock, a_certificate_of_a_clock_that_was_ahead_is_one_of_the_pinned_authority_still) {
  b_.authority.at = wall_and(30 * kDayUs);
  pair_up(a_, b_);
  EXPECT_TRUE(both_ways());
}

TEST_F(WrongClock, so_is_one_that_has_expired_by_a_clock_that_is_ahead_here) {
  b_.authority.at = wall_and(-30 * kDayUs);  // valid for 10 days
  pair_up(a_, b_);
  EXPECT_TRUE(both_ways());
}

TEST_F(WrongClock, a_site_that_was_made_under_a_clock_that_was_ahead_is_reached) {
  b_.authority = Authority(2, wall_and(400 * kDayUs));
  pair_up(a_, b_);
  EXPECT_TRUE(both_ways());
}

TEST_F(WrongClock, another_authority_is_refused_whatever_the_dates) {
  Authority forged(2);
  b_.authority.at = wall_and(30 * kDayUs);
  b_.run({a_.as_peer()});
  peer::PeerSettings pinned = b_.as_peer();
  pinned.ca_pem = forged.ca.to_pem();
  a_.run({pinned});
  const Result<Bytes> there = a_.client->call(b_.authority.id, Bytes(1), 10s);
  EXPECT_EQ(there.error().code, ErrorCode::kWrongKey);
}

TEST_F(WrongClock, the_link_gets_another_certificate_once_the_clock_is_right) {
  // Issued by a clock that is ahead, which is set right a moment later.
  b_.authority.at = wall_and(30 * kDayUs);
  std::atomic<int> issued = 0;
  b_.on_issue = [&] {
    if (++issued == 1) return;
    b_.authority.at.reset();
  };
  b_.run({a_.as_peer()}, {.look_at_leaf_again = 50ms});
  a_.run({b_.as_peer(true)});
  ASSERT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kConnected));
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (issued < 2 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(issued, 2);
  EXPECT_TRUE(both_ways());
  // What connects from now on is shown the new one.
  const Authority stranger(9);  // a paired site's connection would take the place of the old one
  const bool shown = [&] {
    for (int i = 0; i < 200; ++i) {
      Outsider outsider(stranger, b_.process.address());
      const auto chain = outsider.peer_chain();
      if (!chain.empty() && chain.front().valid_at(wall_now())) return true;
      std::this_thread::sleep_for(20ms);
    }
    return false;
  }();
  EXPECT_TRUE(shown);
  EXPECT_TRUE(both_ways()) << "the connection of before goes on";
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(issued, 2) << "one that is valid is left alone";
}

TEST_F(WrongClock, sites_tell_each_other_their_time) {
  pair_up(a_, b_, true);
  const std::optional<int64_t> ahead = wait_clock(b_.authority.id);
  ASSERT_TRUE(ahead.has_value());
  EXPECT_LT(std::abs(*ahead), 30 * kSecondUs) << "one host, one clock; a loaded one is late";
}

TEST_F(WrongClock, a_peer_whose_clock_is_ahead_is_said_to_be_by_so_much) {
  Authority other(3);
  a_.run(
      {{.site = other.id, .name = "other", .ca_pem = other.ca.to_pem(), .address = "127.0.0.1:1"}});
  Outsider outsider(other, a_.process.address());
  ASSERT_TRUE(outsider.hello());
  const auto tell = [&](int64_t more_us) {
    return outsider.send(peer::encode_clock(wall_and(more_us)));
  };
  ASSERT_TRUE(outsider.receive_type(FrameType::kClock).has_value());
  ASSERT_TRUE(tell((26 * 3600 + 1800) * kSecondUs));
  std::optional<int64_t> ahead = wait_clock(other.id);
  ASSERT_TRUE(ahead.has_value());
  EXPECT_NEAR(static_cast<double>(*ahead), 26.5 * 3600 * kSecondUs, 30.0 * kSecondUs);
  // Set right while the connection lasts, and then behind.
  ASSERT_TRUE(tell(-3600 * kSecondUs));
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (a_.record.state(other.id).clock_ahead_us.value_or(1) > 0 &&
         std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(10ms);
  EXPECT_NEAR(static_cast<double>(*a_.record.state(other.id).clock_ahead_us), -3600.0 * kSecondUs,
              30.0 * kSecondUs);
  const std::string log = a_.process.read_log();
  EXPECT_NE(log.find("the clock of site other is 1 day 2 h ahead of this one's"), std::string::npos)
      << log;
}

TEST_F(WrongClock, a_time_that_is_none_breaks_nothing) {
  Authority other(3);
  a_.run(
      {{.site = other.id, .name = "other", .ca_pem = other.ca.to_pem(), .address = "127.0.0.1:1"}});
  Outsider outsider(other, a_.process.address());
  ASSERT_TRUE(outsider.hello());
  ASSERT_TRUE(outsider.send(peer::encode_clock(Micros(~uint64_t{0}))));
  ASSERT_TRUE(outsider.send(peer::encode_clock(Micros(0))));
  for (int i = 0; i < 2000; ++i)
    ASSERT_TRUE(outsider.send(peer::encode_clock(wall_and(i % 2 == 0 ? kDayUs : -kDayUs))));
  EXPECT_TRUE(wait_clock(other.id).has_value());
  EXPECT_TRUE(a_.process.alive());
  EXPECT_LT(a_.process.read_log().size(), 10'000U);
}

}  // namespace
}  // namespace hf::link::testing
