#include "control/protection/consent.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

SiteId site(uint8_t n) {
  SiteId id;
  id.bytes[0] = std::byte{n};
  return id;
}

TEST(OfferPace, lets_a_thousand_through_and_then_one_each_ten_seconds) {
  OfferPace pace;
  Micros now(1'000'000);
  for (uint64_t i = 0; i < OfferPace::kBurst; ++i) ASSERT_TRUE(pace.admit(site(1), now)) << i;
  EXPECT_FALSE(pace.admit(site(1), now));
  EXPECT_TRUE(pace.admit(site(2), now)) << "each by itself";
  int let_through = 0;
  for (int second = 0; second < 100; ++second) {
    now = Micros(now.value + 1'000'000);
    let_through += pace.admit(site(1), now) ? 1 : 0;
  }
  EXPECT_EQ(let_through, 10);
  now = Micros(now.value + uint64_t{1'000'000} * 3600 * 24 * 365);
  for (uint64_t i = 0; i < OfferPace::kBurst; ++i) ASSERT_TRUE(pace.admit(site(1), now)) << i;
  EXPECT_FALSE(pace.admit(site(1), now));
  EXPECT_FALSE(pace.admit(site(1), Micros(0))) << "a clock that goes back gives nothing";
}

}  // namespace
}  // namespace hf::control
