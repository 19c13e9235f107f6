#include "control/core/notice.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace hf::control {
namespace {

TEST(NoticeTest, what_was_told_between_looking_and_subscribing_wakes_at_once) {
  Notice notice;
  uint64_t seen = notice.version();
  notice.tell();
  bool woken = false;
  notice.subscribe(seen, [&] { woken = true; });
  EXPECT_TRUE(woken);
}

TEST(NoticeTest, each_subscriber_is_woken_once_and_not_after_it_left) {
  Notice notice;
  int first = 0, second = 0;
  notice.subscribe(notice.version(), [&] { ++first; });
  uint64_t left = notice.subscribe(notice.version(), [&] { ++second; });
  notice.unsubscribe(left);
  notice.tell();
  notice.tell();
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
}

TEST(NoticeTest, nobody_sleeps_through_news_from_another_thread) {
  auto notice = std::make_shared<Notice>();
  std::atomic<uint64_t> value = 0;
  std::thread teller([&] {
    for (uint64_t i = 1; i <= 1000; ++i) {
      value = i;
      notice->tell();
    }
  });
  for (;;) {
    uint64_t seen = notice->version();
    if (value == 1000) break;
    std::atomic<bool> woken = false;
    uint64_t id = notice->subscribe(seen, [&] { woken = true; });
    while (!woken) std::this_thread::yield();
    notice->unsubscribe(id);
  }
  teller.join();
}

}  // namespace
}  // namespace hf::control
