#include "journal/map/merge.h"

#include <gtest/gtest.h>

#include "journal/test_world.h"

namespace hf::journal {
namespace {

struct MergingSite : TestSite {
  explicit MergingSite(uint64_t seed) : TestSite(seed) {}
  Options merging() const {
    Options with = options();
    with.merge_keep_segments = 2;
    with.merge_batch_segments = 3;
    with.merge_step_bytes = 64u << 10;
    with.merge_bases_max = 4;
    return with;
  }
  std::unique_ptr<Journal> make() {
    return *Journal::create(storage, clock, rng, keys(), merging());
  }
  Result<std::unique_ptr<Journal>> reopen() {
    return Journal::open(storage, clock, rng, keys(), merging());
  }
  // Random writes and zeroes, mirrored in `model`.
  void work(Journal& journal, int count, sim::SimRng& chance) {
    for (int i = 0; i < count; ++i) {
      const size_t length = chance.between(1, 9000);
      const uint64_t offset = chance.below(model.size() - length);
      if (chance.chance(1, 4)) {
        Waiter done;
        ASSERT_TRUE(journal.zero(VolumeId(1), offset, length, &done).ok());
        ASSERT_TRUE(wait(journal, done).ok());
        std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), length, std::byte{0});
      } else {
        const Bytes data = pattern(length, chance.next());
        ASSERT_TRUE(write(journal, offset, data).ok());
        std::ranges::copy(data, model.begin() + static_cast<ptrdiff_t>(offset));
      }
    }
  }
  Bytes model = Bytes(300'000);
};

TEST(Merge, gives_space_back_and_changes_nothing_that_is_read) {
  MergingSite site(1);
  auto journal = site.make();
  sim::SimRng chance(2);
  bool had_bases = false;
  size_t bases_max = 0;
  for (int round = 0; round < 20; ++round) {
    site.work(*journal, 60, chance);
    EXPECT_EQ(*site.read(*journal, 0, site.model.size()), site.model);
    had_bases |= journal->status().bases > 0;
    bases_max = std::max(bases_max, journal->status().bases);
    if (round % 5 != 4) continue;
    ASSERT_TRUE(site.close(*journal).ok());
    site.settle(*journal);
    journal.reset();
    auto opened = site.reopen();
    ASSERT_TRUE(opened.ok()) << opened.error().describe();
    journal = std::move(*opened);
    EXPECT_EQ(*site.read(*journal, 0, site.model.size()), site.model);
  }
  EXPECT_TRUE(had_bases);
  EXPECT_LE(bases_max, 5u);
  site.settle(*journal);
  EXPECT_LE(journal->status().segments, 5u);
  EXPECT_LT(site.storage.used_bytes(), 40 * kTestSegment);
  EXPECT_EQ(*site.read(*journal, 0, site.model.size()), site.model);
}

TEST(Merge, loses_nothing_flushed_when_power_goes_at_any_step) {
  size_t merged = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    MergingSite site(seed);
    auto journal = site.make();
    sim::SimRng chance(seed + 1000);
    site.work(*journal, 90, chance);
    ASSERT_TRUE(site.flush(*journal).ok());
    // Leave the merge to itself for a while, then cut.
    bool dead = false;
    site.storage.die_after(chance.between(1, 400), [&] { dead = true; });
    site.run(*journal, [&] { return dead || journal->failed() != nullptr; }, 300'000);
    merged += journal->status().bases;
    site.storage.power_loss();
    site.storage.reopen();
    journal.reset();
    auto opened = site.reopen();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    ASSERT_EQ(*site.read(**opened, 0, site.model.size()), site.model) << "seed " << seed;
  }
  EXPECT_GT(merged, 20u);
}

TEST(Merge, leaves_an_exact_prefix_when_power_goes_with_writes_unsynced) {
  size_t merged = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    MergingSite site(seed);
    site.log_options.auto_sync_us = seed % 2 == 0 ? 4'000 : 60'000;
    auto journal = site.make();
    sim::SimRng chance(seed + 2000);
    site.work(*journal, 80, chance);
    ASSERT_TRUE(site.flush(*journal).ok());
    std::vector<Bytes> states{site.model};
    // The merge goes on while these overwrite what it copies; none of them is flushed.
    for (uint64_t i = chance.between(10, 60); i > 0; --i) {
      site.work(*journal, 1, chance);
      states.push_back(site.model);
    }
    site.run(*journal, [] { return false; }, chance.between(0, 60'000));
    merged += journal->status().bases;
    site.storage.power_loss();
    site.storage.reopen();
    journal.reset();
    auto opened = site.reopen();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    const Bytes found = *site.read(**opened, 0, site.model.size());
    ASSERT_NE(std::ranges::find(states, found), states.end()) << "seed " << seed;
  }
  EXPECT_GT(merged, 20u);
}

TEST(Merge, keeps_what_a_peer_still_needs) {
  MergingSite site(5);
  auto journal = site.make();
  const Position start = journal->durable_end().position;
  journal->pin(start.sequence);
  sim::SimRng chance(6);
  site.work(*journal, 200, chance);
  site.settle(*journal);
  EXPECT_EQ(journal->status().bases, 0u);
  EXPECT_FALSE(site.sealed(*journal, start).error.has_value());
  journal->pin(std::nullopt);
  site.settle(*journal);
  EXPECT_GT(journal->status().bases, 0u);
  EXPECT_EQ(site.sealed(*journal, start).error->code, ErrorCode::kNotFound);
  EXPECT_EQ(*site.read(*journal, 0, site.model.size()), site.model);
}

TEST(Merge, names_a_base_file_that_was_altered) {
  MergingSite site(7);
  auto journal = site.make();
  sim::SimRng chance(8);
  site.work(*journal, 200, chance);
  site.settle(*journal);
  ASSERT_GT(journal->status().bases, 0u);
  ASSERT_TRUE(site.close(*journal).ok());
  site.settle(*journal);
  journal.reset();
  size_t refused = 0, caught = 0;
  for (const auto& [name, bytes] : site.snapshot()) {
    if (!name.starts_with("base-")) continue;
    for (uint64_t at = 5; at < bytes.size(); at += 4099) {
      const std::byte flipped = bytes[at] ^ std::byte{1};
      site.storage.tamper(name, at, ByteSpan(&flipped, 1));
      auto opened = site.reopen();
      if (!opened.ok()) {
        EXPECT_NE(opened.error().cause.find(name), std::string::npos);
        ++refused;
      } else {
        // A run's bytes are checked as they are read.
        auto read = site.read(**opened, 0, site.model.size());
        if (!read.ok()) {
          EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
          EXPECT_NE(read.error().cause.find(name), std::string::npos);
          ++caught;
        } else {
          EXPECT_EQ(*read, site.model);  // padding, or a unit that a later write hides
        }
        site.storage.tamper(name, at, ByteSpan(&bytes[at], 1));
        site.storage.kill_process();
        site.storage.reopen();
        break;  // opening wrote an incarnation: the snapshot is past
      }
      site.storage.tamper(name, at, ByteSpan(&bytes[at], 1));
    }
  }
  EXPECT_GT(refused + caught, 0u);
}

}  // namespace
}  // namespace hf::journal
