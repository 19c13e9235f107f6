#include "link/doorkeeper.h"

#include <gtest/gtest.h>

namespace hf::link {
namespace {

Origin origin(int number) {
  return origin_of(*parse_address("10.0." + std::to_string(number / 250) + "." +
                                  std::to_string(1 + number % 250) + ":1000"));
}

TEST(Doorkeeper, one_origin_gets_its_places_and_no_more) {
  Doorkeeper door({.strangers_max = 10, .per_origin = 3, .per_known_origin = 2});
  const auto first = door.admit(origin(1));
  ASSERT_TRUE(first.ticket.has_value());
  ASSERT_TRUE(door.admit(origin(1)).ticket && door.admit(origin(1)).ticket);
  const auto fourth = door.admit(origin(1));
  EXPECT_FALSE(fourth.ticket || fourth.evicted);
  EXPECT_TRUE(door.admit(origin(2)).ticket.has_value());
  door.leave(*first.ticket);
  EXPECT_TRUE(door.admit(origin(1)).ticket.has_value());
}

TEST(Doorkeeper, where_all_places_are_taken_the_oldest_goes) {
  Doorkeeper door({.strangers_max = 5, .per_origin = 3, .per_known_origin = 2});
  const auto oldest = door.admit(origin(0));
  for (int i = 1; i < 5; ++i) EXPECT_FALSE(door.admit(origin(i)).evicted.has_value());
  const auto next = door.admit(origin(9));
  EXPECT_TRUE(next.ticket.has_value());
  EXPECT_EQ(next.evicted, oldest.ticket);
  EXPECT_EQ(door.waiting(), 5U);
}

TEST(Doorkeeper, no_stranger_takes_a_paired_sites_place) {
  Doorkeeper door({.strangers_max = 4, .per_origin = 4, .per_known_origin = 2});
  door.set_known({origin(1)});
  const auto known = door.admit(origin(1));
  for (int i = 0; i < 100; ++i) {
    const auto verdict = door.admit(origin(100 + i));
    EXPECT_NE(verdict.evicted, known.ticket);
  }
  EXPECT_EQ(door.waiting(), 5U);
  const auto second = door.admit(origin(1));
  EXPECT_TRUE(second.ticket && !second.evicted);
  // Its own oldest makes room: a site behind an address with strangers comes in too.
  EXPECT_EQ(door.admit(origin(1)).evicted, known.ticket);
}

TEST(Doorkeeper, who_was_a_stranger_when_it_came_leaves_as_one) {
  Doorkeeper door({.strangers_max = 4, .per_origin = 2, .per_known_origin = 2});
  const auto before = door.admit(origin(1));
  door.set_known({origin(1)});
  const auto after = door.admit(origin(1));
  door.set_known({});
  door.leave(*before.ticket);
  door.leave(*after.ticket);
  door.leave(*after.ticket);
  EXPECT_EQ(door.waiting(), 0U);
  EXPECT_TRUE(door.admit(origin(1)).ticket && door.admit(origin(1)).ticket);
  EXPECT_FALSE(door.admit(origin(1)).ticket.has_value());
}

TEST(Origin, is_an_address_or_half_of_one) {
  auto of = [](const char* text) { return origin_of(*parse_address(text)); };
  EXPECT_EQ(of("192.0.2.1:1"), of("192.0.2.1:2"));
  EXPECT_NE(of("192.0.2.1:1"), of("192.0.2.2:1"));
  EXPECT_EQ(of("[::ffff:192.0.2.1]:1"), of("192.0.2.1:1"));
  EXPECT_EQ(of("[2001:db8::1]:1"), of("[2001:db8::ffff:1]:1"));
  EXPECT_NE(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
  EXPECT_EQ(to_text(*parse_address("[2001:db8::1]:77")), "[2001:db8::1]:77");
  EXPECT_EQ(to_text(*parse_address("192.0.2.1:77")), "192.0.2.1:77");
  for (const char* bad : {"localhost:1", "1.2.3:1", "[::1:1", "::1", "1.2.3.4"})
    EXPECT_FALSE(parse_address(bad).ok()) << bad;
}

}  // namespace
}  // namespace hf::link
