#include "daemon/forward_clock.h"

#include <gtest/gtest.h>

namespace hf::daemon {
namespace {

struct SetClock final : Clock {
  Micros wall_time() override { return wall; }
  Micros monotonic() override { return mono; }
  void pass(uint64_t us) {
    wall.value += us;
    mono.value += us;
  }
  Micros wall{1'000'000'000'000};
  Micros mono{50};
};

TEST(ForwardClock, runs_on_when_the_wall_clock_is_set_back) {
  SetClock clock;
  ForwardClock forward(clock);
  clock.pass(1000);
  EXPECT_EQ(forward.now(), Micros(1'000'000'001'000));
  clock.wall.value -= 3600ull * 1'000'000;
  EXPECT_EQ(forward.now(), Micros(1'000'000'001'000));
  clock.pass(500);
  EXPECT_EQ(forward.now(), Micros(1'000'000'001'500));
}

TEST(ForwardClock, follows_the_wall_clock_forward) {
  SetClock clock;
  ForwardClock forward(clock);
  clock.wall.value += 7'000'000;
  EXPECT_EQ(forward.now(), clock.wall);
  clock.pass(1);
  EXPECT_EQ(forward.now(), clock.wall);
}

}  // namespace
}  // namespace hf::daemon
