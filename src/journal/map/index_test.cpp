#include "journal/map/index.h"

#include <gtest/gtest.h>

#include "sim/world/rng.h"

namespace hf::journal {
namespace {

constexpr VolumeId kDisk{1};

TEST(Index, agrees_with_a_byte_by_byte_model) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Index index;
    std::array<uint64_t, 500> model{};  // the record that owns each byte; 0: none
    sim::SimRng rng(seed);
    for (uint64_t step = 1; step <= 400; ++step) {
      const uint64_t length = rng.between(1, 60);
      const uint64_t offset = rng.below(model.size() - length);
      const bool zero = rng.chance(1, 4);
      if (zero) {
        index.erase(kDisk, offset, length);
      } else {
        index.insert(kDisk, offset, length,
                     {.start = offset, .length = static_cast<uint32_t>(length), .sequence = step});
      }
      std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), length, zero ? 0 : step);
      uint64_t extents = 0;
      for (uint64_t at = 0; at < model.size();) {
        const auto found = index.find(kDisk, at, model.size());
        const uint64_t next = found ? found->offset : model.size();
        for (; at < next; ++at) ASSERT_EQ(model[at], 0u);
        if (!found) break;
        ++extents;
        for (; at < found->end(); ++at) ASSERT_EQ(model[at], found->place.sequence);
      }
      ASSERT_EQ(index.extents(), extents);
    }
  }
}

TEST(Index, cuts_what_it_finds_to_what_was_asked) {
  Index index;
  index.insert(kDisk, 100, 50, {.start = 100, .length = 50, .sequence = 1});
  const auto found = index.find(kDisk, 110, 120);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->offset, 110u);
  EXPECT_EQ(found->length, 10u);
  EXPECT_EQ(found->place.start, 100u);
  EXPECT_FALSE(index.find(kDisk, 0, 100).has_value());
  EXPECT_FALSE(index.find(kDisk, 150, 1000).has_value());
  EXPECT_FALSE(index.find(VolumeId(2), 0, 1000).has_value());
}

TEST(Index, walks_all_volumes_in_order) {
  Index index;
  index.insert(VolumeId(2), 5, 1, {.start = 5, .length = 1});
  index.insert(VolumeId(0), 9, 1, {.start = 9, .length = 1});
  index.insert(VolumeId(0), 3, 1, {.start = 3, .length = 1});
  std::vector<std::pair<uint32_t, uint64_t>> seen;
  Index::Cursor cursor;
  while (auto found = index.next(cursor)) {
    seen.emplace_back(found->volume.value, found->extent.offset);
    cursor = {.volume = found->volume, .offset = found->extent.offset + 1};
  }
  EXPECT_EQ(seen, (std::vector<std::pair<uint32_t, uint64_t>>{{0, 3}, {0, 9}, {2, 5}}));
}

}  // namespace
}  // namespace hf::journal
