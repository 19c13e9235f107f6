#include "control/core/closing.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

using namespace std::chrono_literals;

TEST(Closing, ends_with_its_time_or_when_it_is_lifted) {
  Closing closing;
  EXPECT_FALSE(closing.now());
  const auto until = Closing::Clock::now() + 1h;
  closing.until(until);
  EXPECT_TRUE(closing.now());
  closing.lift(until);
  EXPECT_FALSE(closing.now());
  closing.until(Closing::Clock::now() - 1ms);
  EXPECT_FALSE(closing.now());
}

TEST(Closing, who_gives_up_does_not_lift_what_another_has_said) {
  Closing closing;
  const auto until = Closing::Clock::now() + 1h;
  closing.until(until);
  closing.until(Closing::Time::max());
  closing.until(until + 1h);
  closing.lift(until);
  closing.lift(until + 1h);
  EXPECT_TRUE(closing.now());
}

}  // namespace
}  // namespace hf::control
