#include "journal/ship/seed.h"

#include <gtest/gtest.h>

#include "journal/test_world.h"

namespace hf::journal {
namespace {

// Home merges its oldest segments; the replica begins without them.
struct SeedingSites {
  explicit SeedingSites(uint64_t seed) : home(seed), other(seed + 1000), chance(seed + 2000) {
    Options options = home.options();
    options.merge_keep_segments = 2;
    options.merge_batch_segments = 3;
    options.merge_step_bytes = 64u << 10;
    options.merge_bases_max = 4;
    journal = *Journal::create(home.storage, home.clock, home.rng, home.keys(), options);
    replica = *ReplicaJournal::create(other.storage, other.clock, other.replica_options());
  }
  void work(int count) {
    for (int i = 0; i < count; ++i) {
      const size_t length = chance.between(1, 9000);
      const uint64_t offset = chance.below(model.size() - length);
      const auto at = model.begin() + static_cast<ptrdiff_t>(offset);
      if (chance.chance(1, 4)) {
        Waiter done;
        ASSERT_TRUE(journal->zero(VolumeId(1), offset, length, &done).ok());
        ASSERT_TRUE(home.wait(*journal, done).ok());
        std::fill_n(at, length, std::byte{0});
      } else {
        const Bytes data = TestSite::pattern(length, chance.next());
        ASSERT_TRUE(home.write(*journal, offset, data).ok());
        std::ranges::copy(data, at);
      }
      states[journal->status().accepted] = model;
    }
  }
  SeedDescription description() {
    const Bytes raw = *journal->describe_seed();
    return *decode_seed(raw, home.vm, home.keys().public_key());
  }
  Bytes fetch(const SeedDescription& seed) {
    Bytes all;
    for (const SeedBase& base : seed.bases) {
      for (uint64_t at = 0; at < base.size();) {
        SealedWaiter part;
        const size_t length = static_cast<size_t>(std::min<uint64_t>(base.size() - at, 5000));
        journal->read_seed(base.number, at, length, part);
        EXPECT_TRUE(home.run(*journal, [&] { return part.done; }));
        EXPECT_FALSE(part.error.has_value());
        if (part.records.size() != length) return {};
        all.insert(all.end(), part.records.begin(), part.records.end());
        at += length;
      }
    }
    EXPECT_EQ(all.size(), seed.bytes());
    return all;
  }
  Status give(ByteSpan bytes) {
    for (size_t at = 0; at < bytes.size(); at += 7000) {
      TRY(replica->append_seed(bytes.subspan(at, std::min<size_t>(7000, bytes.size() - at))));
    }
    return {};
  }
  Status reopen_replica() {
    replica.reset();
    replica = TRY(ReplicaJournal::open(other.storage, other.clock, other.replica_options()));
    return {};
  }
  Status seed() {
    const SeedDescription from = description();
    TRY(replica->begin_seed(from));
    TRY(give(fetch(from)));
    other.settle(*replica);
    TRY(replica->finish_seed());
    EXPECT_TRUE(replica->replaced());
    other.storage.kill_process();
    other.storage.reopen();
    return reopen_replica();
  }
  Bytes promoted() {
    replica.reset();
    other.storage.kill_process();
    other.storage.reopen();
    other.epoch = Epoch(2);
    auto opened = other.open();
    EXPECT_TRUE(opened.ok()) << opened.error().describe();
    if (!opened.ok()) return {};
    return *other.read(**opened, 0, model.size());
  }

  TestSite home, other;
  sim::SimRng chance;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<ReplicaJournal> replica;
  Bytes model = Bytes(300'000);
  std::map<Sequence, Bytes> states;  // after each record
  Bytes state_at(Sequence last) const {
    const auto after = states.upper_bound(last);
    return after == states.begin() ? Bytes(model.size()) : std::prev(after)->second;
  }
};

TEST(Seed, is_the_state_where_the_segments_begin_and_the_tail_goes_on_from_there) {
  for (uint64_t seed = 1; seed < 12; ++seed) {
    SeedingSites sites(seed);
    for (uint64_t round = 0; round < 1 + seed; ++round) {
      sites.work(60);
      sites.home.settle(*sites.journal);
    }
    ASSERT_GT(sites.journal->status().bases, 0u);
    ASSERT_EQ(sites.home.sealed(*sites.journal, {}).error->code, ErrorCode::kNotFound);
    ASSERT_TRUE(sites.home.flush(*sites.journal).ok());
    const Horizon through = sites.description().through();
    const Status seeded = sites.seed();
    ASSERT_TRUE(seeded.ok()) << seeded.error().describe();
    EXPECT_EQ(sites.replica->durable_end(), through.end);
    EXPECT_EQ(*sites.journal->locate(sites.replica->end()), LineMatch::kOnLine);
    if (seed % 2 == 0) {
      // Nothing of the tail: exactly what stood there, not what was overwritten since.
      EXPECT_EQ(sites.promoted(), sites.state_at(through.end.position.sequence));
      continue;
    }
    ASSERT_TRUE(sites.home.ship(*sites.journal, sites.other, *sites.replica).ok());
    EXPECT_EQ(sites.replica->durable_end(), sites.journal->durable_end());
    EXPECT_EQ(sites.replica->lineage(), sites.journal->lineage());
    EXPECT_EQ(sites.promoted(), sites.model);
  }
}

TEST(Seed, leaves_the_older_replica_as_it_was_until_it_is_whole_and_at_any_power_loss) {
  size_t switched = 0, kept = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SeedingSites sites(seed);
    sites.work(20);
    ASSERT_TRUE(sites.home.flush(*sites.journal).ok());
    ASSERT_TRUE(sites.home.ship(*sites.journal, sites.other, *sites.replica).ok());
    const LineEnd before = sites.replica->durable_end();
    sites.work(200);
    sites.home.settle(*sites.journal);
    const SeedDescription from = sites.description();
    const Bytes bytes = sites.fetch(from);
    bool dead = false;
    const auto die_within = [&](uint64_t operations) {
      sites.other.storage.die_after(sites.chance.between(1, operations), [&] { dead = true; });
    };
    if (seed % 2 == 0) die_within(bytes.size() / 7000 + 20);
    Status taken = sites.replica->begin_seed(from);
    if (taken.ok()) taken = sites.give(bytes);
    if (taken.ok()) {
      sites.other.run(*sites.replica, [&] { return dead || sites.replica->idle(); });
      if (seed % 2 == 1) die_within(20);  // around the switch
      if (!dead) taken = sites.replica->finish_seed();
    }
    sites.other.storage.power_loss();
    sites.other.storage.reopen();
    sites.other.storage.never_die();
    const Status opened = sites.reopen_replica();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    const LineEnd end = sites.replica->durable_end();
    ASSERT_TRUE(end == before || end == from.through().end) << "seed " << seed;
    (end == before ? kept : switched)++;
    for (const std::string& name : *sites.other.storage.list()) {
      EXPECT_FALSE(name.starts_with(kSeedNamePrefix)) << name;
    }
    EXPECT_EQ(sites.promoted(), sites.state_at(end.position.sequence)) << "seed " << seed;
  }
  EXPECT_GT(switched, 3u);
  EXPECT_GT(kept, 3u);
}

TEST(Seed, takes_no_byte_that_is_not_signed_for) {
  SeedingSites sites(3);
  sites.work(300);
  sites.home.settle(*sites.journal);
  const SeedDescription from = sites.description();
  const Bytes good = sites.fetch(from);
  for (size_t at = 0; at < good.size(); at += 997) {
    ASSERT_TRUE(sites.replica->begin_seed(from).ok());
    Bytes bad = good;
    bad[at] ^= std::byte{4};
    EXPECT_EQ(sites.give(bad).error().code, ErrorCode::kCorrupt) << at;
    sites.replica->abandon_seed();
  }
  for (const std::string& name : *sites.other.storage.list()) {
    EXPECT_FALSE(name.starts_with(kSeedNamePrefix)) << name;
  }
}

TEST(Seed, is_refused_with_any_byte_of_its_description_altered_a_base_left_out_or_another_key) {
  SeedingSites sites(4);
  while (sites.journal->status().bases < 2) {
    sites.work(20);
    sites.home.settle(*sites.journal);
  }
  const Bytes good = *sites.journal->describe_seed();
  const crypto::PublicKey key = sites.home.keys().public_key();
  const SeedDescription seed = *decode_seed(good, sites.home.vm, key);
  ASSERT_GT(seed.bases.size(), 1u);
  size_t numbers = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= std::byte{1};
    const auto decoded = decode_seed(bad, sites.home.vm, key);
    // Home's names for its files are for home only.
    if (decoded.ok()) ++numbers;
    EXPECT_FALSE(decode_seed(ByteSpan(good).first(at), sites.home.vm, key).ok());
  }
  EXPECT_EQ(numbers, 8 * seed.bases.size());
  EXPECT_FALSE(decode_seed(good, sites.home.vm, sites.home.keys_of(0x44).public_key()).ok());
  // Without the newest it is the seed of an earlier time.
  for (size_t out = 0; out + 1 < seed.bases.size(); ++out) {
    std::vector<SeedBaseEntry> bases;
    for (size_t i = 0; i < seed.bases.size(); ++i) {
      if (i != out) bases.push_back({.number = seed.bases[i].number, .footer = seed.bases[i].raw});
    }
    const auto decoded =
        decode_seed(encode_seed(sites.home.vm, seed.lineage, bases), sites.home.vm, key);
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt) << out;
  }
}

TEST(Seed, is_refused_by_a_replica_that_is_on_another_line_or_further) {
  SeedingSites sites(5);
  sites.work(200);
  sites.home.settle(*sites.journal);
  ASSERT_TRUE(sites.seed().ok());
  EXPECT_EQ(sites.replica->begin_seed(sites.description()).error().code, ErrorCode::kConflict);

  SeedingSites strangers(6);  // the same VM and key
  strangers.work(5);
  ASSERT_TRUE(strangers.home.flush(*strangers.journal).ok());
  ASSERT_TRUE(strangers.home.ship(*strangers.journal, strangers.other, *strangers.replica).ok());
  EXPECT_EQ(strangers.replica->begin_seed(sites.description()).error().code, ErrorCode::kConflict);
}

TEST(Seed, keeps_its_files_while_it_is_read_and_no_longer_than_the_lease) {
  SeedingSites sites(7);
  sites.work(200);
  sites.home.settle(*sites.journal);
  const SeedDescription from = sites.description();
  const size_t segments = sites.journal->status().segments;
  sites.work(200);
  sites.home.run(*sites.journal, [] { return false; }, 1'000'000);
  EXPECT_GT(sites.journal->status().segments, segments + 3) << "nothing is merged meanwhile";
  EXPECT_EQ(sites.fetch(from).size(), from.bytes());
  // The asker is gone.
  sites.home.run(*sites.journal, [] { return false; }, Pins::kLeaseUs + 1'000'000);
  EXPECT_LE(sites.journal->status().segments, segments + 3);
  EXPECT_EQ(*sites.home.read(*sites.journal, 0, sites.model.size()), sites.model);
}

TEST(Seed, there_is_none_where_nothing_is_merged) {
  SeedingSites sites(8);
  EXPECT_EQ(sites.journal->describe_seed().error().code, ErrorCode::kNotFound);
  SealedWaiter part;
  sites.journal->read_seed(77, 0, 10, part);
  EXPECT_TRUE(sites.home.run(*sites.journal, [&] { return part.done; }));
  EXPECT_EQ(part.error->code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hf::journal
