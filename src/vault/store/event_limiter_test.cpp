#include "vault/store/event_limiter.h"

#include <gtest/gtest.h>

namespace hf::vault {
namespace {

constexpr uint64_t kSecond = 1'000'000;
constexpr EventLimits kLimits{.at_once = 3, .interval_us = 10 * kSecond, .keys_max = 2};

TEST(EventLimiter, lets_a_few_through_and_then_one_an_interval_with_the_count_between) {
  EventLimiter<int> limiter(kLimits);
  uint64_t written = 0;
  uint64_t left_out = 0;
  // 100 a second for 100 s.
  for (uint64_t i = 0; i < 10'000; ++i) {
    if (const auto before = limiter.admit(1, Micros(kSecond + i * 10'000))) {
      ++written;
      left_out += *before;
    }
  }
  EXPECT_EQ(written, 3u + 9u);
  EXPECT_EQ(left_out + written, 9001u);  // what came after the last line is not counted yet
}

TEST(EventLimiter, counts_each_key_by_itself) {
  EventLimiter<int> limiter(kLimits);
  for (int i = 0; i < 5; ++i) limiter.admit(1, Micros(1));
  EXPECT_EQ(limiter.admit(1, Micros(1)), std::nullopt);
  EXPECT_EQ(limiter.admit(2, Micros(1)), 0u);
}

TEST(EventLimiter, is_bounded_and_forgets_who_was_quiet) {
  EventLimiter<int> limiter(kLimits);
  EXPECT_TRUE(limiter.admit(1, Micros(1)));
  EXPECT_TRUE(limiter.admit(2, Micros(1)));
  EXPECT_FALSE(limiter.admit(3, Micros(2)));
  EXPECT_TRUE(limiter.admit(3, Micros(1 + 31 * kSecond)));
}

}  // namespace
}  // namespace hf::vault
