#include "launcher/process/hang_watch.h"

#include <gtest/gtest.h>

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;

class HangWatchTest : public testing::Test {
 protected:
  // One look at its time, or `late` after it.
  bool tick(bool heard, milliseconds late = milliseconds(0)) {
    now_ = *watch_.next_look() + late;
    return watch_.look(now_, heard);
  }

  HangWatch watch_{HangLimits{}};
  HangWatch::TimePoint now_{};
};

TEST_F(HangWatchTest, three_silent_seconds_are_a_hang) {
  watch_.begin(now_);
  EXPECT_FALSE(tick(true));
  EXPECT_FALSE(tick(false));
  EXPECT_FALSE(tick(false));
  EXPECT_TRUE(tick(false));
}

TEST_F(HangWatchTest, a_sign_begins_the_count_anew) {
  watch_.begin(now_);
  for (int round = 0; round < 5; ++round) {
    EXPECT_FALSE(tick(true));
    EXPECT_FALSE(tick(false));
    EXPECT_FALSE(tick(false));
  }
}

TEST_F(HangWatchTest, a_long_start_is_none) {
  watch_.begin(now_);
  for (int second = 0; second < 600; ++second) EXPECT_FALSE(tick(false));
  EXPECT_FALSE(tick(true));
}

TEST_F(HangWatchTest, a_host_that_stood_still_proves_nothing) {
  watch_.begin(now_);
  EXPECT_FALSE(tick(true));
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(tick(false, milliseconds(900)));
  EXPECT_FALSE(tick(false));
  EXPECT_FALSE(tick(false));
  EXPECT_TRUE(tick(false));
}

TEST_F(HangWatchTest, is_asked_for_nothing_when_nothing_runs) {
  EXPECT_FALSE(watch_.next_look().has_value());
  watch_.begin(now_);
  EXPECT_TRUE(watch_.next_look().has_value());
  watch_.end();
  EXPECT_FALSE(watch_.next_look().has_value());
}

}  // namespace
}  // namespace hf::launcher
