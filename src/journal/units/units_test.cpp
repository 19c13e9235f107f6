#include "journal/units/units.h"

#include <gtest/gtest.h>

#include "sim/world/rng.h"

namespace hf::journal {
namespace {

Bytes random_bytes(sim::SimRng& rng, size_t size) {
  Bytes bytes(size);
  rng.fill(bytes);
  return bytes;
}

TEST(Units, are_the_aligned_blocks_that_a_write_covers) {
  const UnitLayout plain(8192, 4096);
  EXPECT_EQ(plain.count(), 1u);
  EXPECT_EQ(plain.stored_size(), 4112u);
  const UnitLayout odd(4000, 1u << 20);
  EXPECT_EQ(odd.count(), kUnitsMax);
  EXPECT_EQ(odd.unit(0).length, 96u);
  EXPECT_EQ(odd.unit(256).length, 4000u);
  const auto covered = [&](uint64_t skip, uint64_t length) {
    const UnitRange range = odd.covering(skip, length);
    return std::pair(range.first, range.count);
  };
  EXPECT_EQ(covered(0, 96), std::pair(size_t{0}, size_t{1}));
  EXPECT_EQ(covered(95, 2), std::pair(size_t{0}, size_t{2}));
  EXPECT_EQ(covered(96, 8192), std::pair(size_t{1}, size_t{2}));
  size_t end = 0;
  for (size_t i = 0; i < odd.count(); ++i) {
    EXPECT_EQ(odd.unit(i).stored_at, end);
    end += odd.unit(i).stored_length();
  }
  EXPECT_EQ(end, odd.stored_size());
}

TEST(Units, any_part_of_a_record_still_proves_itself_also_when_pruned_again) {
  sim::SimRng rng(1);
  for (int round = 0; round < 300; ++round) {
    const UnitLayout layout(rng.below(9000), rng.between(1, round % 10 == 0 ? 1u << 20 : 60'000));
    const Bytes payload = random_bytes(rng, layout.stored_size());
    const Digest root = payload_root(layout, payload);
    LiveUnits live(layout.count());
    for (size_t i = 0; i < live.size(); ++i) live[i] = rng.chance(1, 2);
    live[rng.below(live.size())] = true;
    PrunedPayload pruned = prune(layout, payload, live);
    ASSERT_TRUE(check_pruned(layout, live, pruned, root).ok());
    LiveUnits fewer = live;
    for (size_t i = 0; i < fewer.size(); ++i) fewer[i] = fewer[i] && rng.chance(1, 2);
    if (std::find(fewer.begin(), fewer.end(), true) == fewer.end()) fewer = live;
    const PrunedPayload again = prune_again(layout, pruned, live, fewer);
    ASSERT_TRUE(check_pruned(layout, fewer, again, root).ok());
    const PrunedPayload direct = prune(layout, payload, fewer);
    ASSERT_EQ(again.units, direct.units);
    ASSERT_EQ(again.hashes, direct.hashes);
    // Another unit, another hash, another choice of units.
    PrunedPayload bad = again;
    bad.units[rng.below(bad.units.size())] ^= std::byte{1};
    EXPECT_FALSE(check_pruned(layout, fewer, bad, root).ok());
    if (!again.hashes.empty()) {
      bad = again;
      bad.hashes[rng.below(bad.hashes.size())].bytes[7] ^= std::byte{1};
      EXPECT_FALSE(check_pruned(layout, fewer, bad, root).ok());
      bad = again;
      bad.hashes.pop_back();
      EXPECT_FALSE(check_pruned(layout, fewer, bad, root).ok());
    }
    bad = again;
    bad.units.pop_back();
    EXPECT_FALSE(check_pruned(layout, fewer, bad, root).ok());
  }
}

TEST(Units, one_survivor_of_a_whole_record_carries_at_most_nine_hashes) {
  for (const size_t count : {size_t{1}, size_t{2}, size_t{256}, kUnitsMax}) {
    for (size_t i = 0; i < count; ++i) {
      LiveUnits live(count);
      live[i] = true;
      EXPECT_LE(pruned_hashes(live), count == kUnitsMax ? 9u : 8u);
    }
  }
}

}  // namespace
}  // namespace hf::journal
