#include "link/log.h"

#include <gtest/gtest.h>

namespace hf::link {
namespace {

TEST(LogLimiter, a_kind_that_comes_without_end_is_counted_not_written) {
  LogLimiter limiter;
  Micros now{1'000'000'000};
  size_t written = 0;
  uint64_t left_out = 0;
  for (int i = 0; i < 100'000; ++i) {
    now.value += 1000;  // a hundred seconds of it
    const auto verdict = limiter.look(LogKind::kStranger, now);
    written += verdict.passes ? 1 : 0;
    left_out += verdict.left_out;
  }
  EXPECT_LE(written, 21U);
  EXPECT_GE(written, 19U);
  EXPECT_GT(left_out, 85'000U);
}

TEST(LogLimiter, one_kind_does_not_silence_another) {
  LogLimiter limiter;
  const Micros now{5'000'000'000};
  for (int i = 0; i < 1000; ++i) limiter.look(LogKind::kStranger, now);
  EXPECT_FALSE(limiter.look(LogKind::kStranger, now).passes);
  EXPECT_TRUE(limiter.look(LogKind::kSite, now).passes);
  EXPECT_TRUE(limiter.look(LogKind::kRefused, now).passes);
}

TEST(LogLimiter, says_how_many_it_left_out) {
  LogLimiter limiter;
  Micros now{5'000'000'000};
  for (uint32_t i = 0; i < LogLimiter::kBurst + 7; ++i) limiter.look(LogKind::kPairing, now);
  now.value += LogLimiter::kRefillUs;
  const auto verdict = limiter.look(LogKind::kPairing, now);
  EXPECT_TRUE(verdict.passes);
  EXPECT_EQ(verdict.left_out, 7U);
}

SiteId site_number(uint32_t number) {
  SiteId site;
  store_le<uint32_t>(site.bytes.data(), number);
  return site;
}

TEST(LogLimiter, one_site_does_not_silence_another) {
  LogLimiter limiter;
  const Micros now{5'000'000'000};
  for (int i = 0; i < 1000; ++i) limiter.look(LogKind::kSite, site_number(1), now);
  EXPECT_FALSE(limiter.look(LogKind::kSite, site_number(1), now).passes);
  EXPECT_TRUE(limiter.look(LogKind::kSite, site_number(2), now).passes);
  EXPECT_TRUE(limiter.look(LogKind::kProtocol, site_number(1), now).passes);
  // Strangers, who can call themselves anything, have none of it.
  for (int i = 0; i < 1000; ++i) limiter.look(LogKind::kRefused, now);
  EXPECT_TRUE(limiter.look(LogKind::kRefused, site_number(2), now).passes);
}

TEST(LogLimiter, of_more_sites_than_there_can_be_it_remembers_so_many) {
  LogLimiter limiter;
  Micros now{5'000'000'000};
  size_t passed = 0;
  for (uint32_t i = 0; i < 10 * LogLimiter::kSitesMax; ++i)
    passed += limiter.look(LogKind::kSite, site_number(i), now).passes ? 1 : 0;
  EXPECT_EQ(passed, LogLimiter::kSitesMax + LogLimiter::kBurst);
  now.value += LogLimiter::kRefillUs;  // those are forgotten, of which nothing was left out
  EXPECT_TRUE(limiter.look(LogKind::kSite, site_number(1'000'000), now).passes);
  EXPECT_TRUE(limiter.look(LogKind::kSite, site_number(1'000'001), now).passes);
}

}  // namespace
}  // namespace hf::link
