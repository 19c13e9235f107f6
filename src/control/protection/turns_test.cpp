#include "control/protection/turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace hf::control {
namespace {

using namespace std::chrono_literals;

VmId vm(uint8_t n) {
  VmId id;
  id.bytes.fill(std::byte{n});
  return id;
}

TEST(Turns, a_vm_has_one_at_a_time_and_others_are_not_held_up) {
  Turns turns;
  std::optional<Turns::Turn> first = turns.take(vm(1), 0ms);
  ASSERT_TRUE(first);
  EXPECT_FALSE(turns.take(vm(1), 0ms));
  EXPECT_TRUE(turns.take(vm(2), 0ms));
  EXPECT_TRUE(turns.take(vm(2), 0ms)) << "it was given back";
  first.reset();
  EXPECT_TRUE(turns.take(vm(1), 0ms));
}

TEST(Turns, who_waits_has_it_when_it_is_given_back) {
  Turns turns;
  std::optional<Turns::Turn> first = turns.take(vm(1), 0ms);
  std::atomic<bool> had = false;
  std::thread waiter([&] { had = turns.take(vm(1), 20s).has_value(); });
  first.reset();
  waiter.join();
  EXPECT_TRUE(had);
}

TEST(Turns, many_at_once_never_two_together) {
  Turns turns;
  std::atomic<int> inside = 0;
  std::atomic<int> had = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        std::optional<Turns::Turn> turn = turns.take(vm(1), 20s);
        ASSERT_TRUE(turn);
        EXPECT_EQ(inside.fetch_add(1), 0);
        inside.fetch_sub(1);
        ++had;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(had, 8 * 200);
}

}  // namespace
}  // namespace hf::control
