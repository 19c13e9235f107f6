#include "control/core/watchers.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <future>

namespace hf::control {
namespace {

using namespace std::chrono_literals;

template <typename Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

TEST(WatchersTest, a_step_runs_when_its_descriptor_has_something_and_not_before) {
  Watchers watchers(2);
  sys::UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::atomic<int> steps = 0;
  watchers.add([&]() -> Watchers::Next {
    eventfd_t value = 0;
    ::eventfd_read(fd.get(), &value);
    ++steps;
    return {.fd = fd.get()};
  });
  ASSERT_TRUE(soon([&] { return steps == 1; }));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(steps, 1);
  for (int i = 2; i < 20; ++i) {
    ::eventfd_write(fd.get(), 1);
    ASSERT_TRUE(soon([&] { return steps == i; }));
  }
}

TEST(WatchersTest, a_step_runs_when_it_is_due_and_when_it_is_woken) {
  Watchers watchers(1);
  std::atomic<int> timed = 0;
  std::atomic<int> woken = 0;
  watchers.add([&]() -> Watchers::Next {
    ++timed;
    return {.due = std::chrono::steady_clock::now() + 5ms};
  });
  uint64_t id = watchers.add([&]() -> Watchers::Next {
    ++woken;
    return {};
  });
  ASSERT_TRUE(soon([&] { return timed > 5 && woken == 1; }));
  watchers.wake(id);
  ASSERT_TRUE(soon([&] { return woken == 2; }));
}

TEST(WatchersTest, one_that_is_woken_while_it_runs_runs_once_more_and_never_twice_at_once) {
  Watchers watchers(4);
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  std::atomic<int> steps = 0;
  uint64_t id = watchers.add([&]() -> Watchers::Next {
    most = std::max(most.load(), ++inside);
    std::this_thread::sleep_for(20ms);
    --inside;
    ++steps;
    return {};
  });
  for (int i = 0; i < 50; ++i) {
    watchers.wake(id);
    std::this_thread::sleep_for(1ms);
  }
  ASSERT_TRUE(soon([&] { return steps >= 2; }));
  watchers.stop();
  EXPECT_EQ(most, 1);
}

TEST(WatchersTest, one_that_blocks_holds_up_no_other_and_what_a_watch_holds_goes_with_it) {
  Watchers watchers(2);
  std::promise<void> go;
  std::shared_future<void> gate = go.get_future().share();
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> alive = held;
  uint64_t blocked = watchers.add([gate, held]() -> Watchers::Next {
    gate.wait();
    return {};
  });
  held.reset();
  std::atomic<bool> other = false;
  watchers.add([&]() -> Watchers::Next {
    other = true;
    return {.over = true};
  });
  ASSERT_TRUE(soon([&] { return other.load(); }));
  watchers.remove(blocked);
  EXPECT_FALSE(alive.expired());
  go.set_value();
  EXPECT_TRUE(soon([&] { return alive.expired(); }));
}

}  // namespace
}  // namespace hf::control
