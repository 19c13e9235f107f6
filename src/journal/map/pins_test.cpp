// A peer that is silent, or never satisfied, doesn't stop merging for ever.
#include "journal/map/pins.h"

#include <gtest/gtest.h>

#include "journal/ship/seed.h"
#include "journal/test_world.h"

namespace hf::journal {
namespace {

struct PinnedSite : TestSite {
  explicit PinnedSite(uint64_t pin_bytes_max) : TestSite(3) {
    Options with = options();
    with.merge_keep_segments = 2;
    with.merge_batch_segments = 3;
    with.pin_bytes_max = pin_bytes_max;
    journal = *Journal::create(storage, clock, rng, keys(), with);
  }
  // So many segments' worth.
  void write_segments(uint64_t count) {
    for (uint64_t i = 0; i < count * 8; ++i) {
      ASSERT_TRUE(write(*journal, i % 40 * 8192, pattern(8192, next++)).ok());
    }
    run(*journal, [] { return false; }, 2'000'000);
  }
  uint64_t next = 0;
  std::unique_ptr<Journal> journal;
};

TEST(Pins, a_silent_peer_holds_segments_up_to_the_bound_and_then_none_and_that_is_said) {
  PinnedSite site(12 * kTestSegment);
  const Sequence at = site.journal->end().position.sequence;
  site.journal->pin(at);
  site.write_segments(10);
  EXPECT_GE(site.journal->status().segments, 9u) << "the pin holds";
  EXPECT_GT(site.journal->status().pinned_bytes, 6 * kTestSegment);
  EXPECT_FALSE(site.journal->take_pin_release().has_value());
  EXPECT_FALSE(site.sealed(*site.journal, site.journal->end().position).error.has_value());

  site.write_segments(30);
  EXPECT_LE(site.journal->status().segments, 6u) << "merging went on";
  EXPECT_GT(site.journal->status().bases, 0u);
  const auto release = site.journal->take_pin_release();
  ASSERT_TRUE(release.has_value());
  EXPECT_EQ(release->pinned, at);
  EXPECT_FALSE(release->seed_lease);
  EXPECT_GT(release->held_bytes, release->bytes_max);
  EXPECT_EQ(release->bytes_max, 12 * kTestSegment);
  EXPECT_FALSE(site.journal->take_pin_release().has_value()) << "it is said once";
  EXPECT_EQ(site.journal->status().pinned_bytes, 0u);

  // The peer is back and has been seeded: its pin holds again.
  site.journal->pin(site.journal->end().position.sequence);
  site.write_segments(9);
  EXPECT_GE(site.journal->status().segments, 9u);
  EXPECT_FALSE(site.journal->take_pin_release().has_value());
}

TEST(Pins, a_peer_that_keeps_up_is_never_let_go) {
  PinnedSite site(6 * kTestSegment);
  for (int i = 0; i < 20; ++i) {
    site.journal->pin(site.journal->durable_end().position.sequence);
    site.write_segments(2);
    EXPECT_FALSE(site.journal->take_pin_release().has_value()) << i;
  }
  EXPECT_GT(site.journal->status().bases, 0u);
}

TEST(Pins, who_asks_for_seeds_again_and_again_holds_merging_only_so_often) {
  PinnedSite site(UINT64_MAX);
  site.write_segments(12);
  ASSERT_GT(site.journal->status().bases, 0u);
  size_t most = 0;
  for (uint32_t i = 0; i < 3 * Pins::kLeasesMax; ++i) {
    ASSERT_TRUE(site.journal->describe_seed().ok());
    site.write_segments(1);
    most = std::max(most, site.journal->status().segments);
    // Just before the lease would have run out.
    site.run(*site.journal, [] { return false; }, Pins::kLeaseUs - 5'000'000);
  }
  EXPECT_GT(most, 6u) << "it held for a while";
  EXPECT_LE(most, 12u + Pins::kLeasesMax) << "and not for as long as it was asked";
  EXPECT_FALSE(site.journal->take_pin_release().has_value());
}

TEST(Pins, a_seed_that_is_read_slowly_is_let_go_at_the_bound_too) {
  PinnedSite site(12 * kTestSegment);
  site.write_segments(12);
  const auto seed = decode_seed(*site.journal->describe_seed(), site.vm, site.keys().public_key());
  ASSERT_TRUE(seed.ok());
  bool released = false;
  for (int i = 0; i < 40 && !released; ++i) {
    SealedWaiter part;
    site.journal->read_seed(seed->bases.front().number, 0, 100, part);
    ASSERT_TRUE(site.run(*site.journal, [&] { return part.done; }));
    ASSERT_FALSE(part.error.has_value()) << i;
    site.write_segments(1);
    if (const auto release = site.journal->take_pin_release()) {
      released = true;
      EXPECT_TRUE(release->seed_lease);
      EXPECT_FALSE(release->pinned.has_value());
    }
  }
  EXPECT_TRUE(released);
  site.write_segments(4);
  EXPECT_LE(site.journal->status().segments, 6u);
}

TEST(Pins, reading_renews_a_lease_only_as_far_as_the_seed_is_long) {
  Pins pins(UINT64_MAX, 2);
  Micros now(1'000'000);
  pins.lease(now, 10 * Pins::kReadCostMin);
  const Micros first = pins.held_until();
  EXPECT_EQ(first.value, now.value + Pins::kLeaseUs);
  int renewed = 0;
  for (int i = 0; i < 1000; ++i) {
    now = Micros(now.value + Pins::kLeaseUs / 2);
    const Micros before = pins.held_until();
    pins.renew_lease(now, 1);
    if (pins.held_until() > before) ++renewed;
  }
  EXPECT_EQ(renewed, 2 * 10 + 16);
  EXPECT_LT(pins.held_until(), now);
}

}  // namespace
}  // namespace hf::journal
