#include "journal/journal.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "journal/format/manifest.h"
#include "journal/test_world.h"

namespace hf::journal {
namespace {

TEST(Journal, reads_back_what_was_written_and_zeroes_elsewhere) {
  TestSite site;
  auto journal = *site.create();
  const Bytes data = TestSite::pattern(10'000, 1);
  ASSERT_TRUE(site.write(*journal, 5'000, data).ok());
  const Bytes all = *site.read(*journal, 0, 20'000);
  EXPECT_TRUE(std::ranges::all_of(ByteSpan(all).first(5'000),
                                  [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_TRUE(std::ranges::equal(ByteSpan(all).subspan(5'000, 10'000), data));
  EXPECT_TRUE(std::ranges::all_of(ByteSpan(all).subspan(15'000),
                                  [](std::byte b) { return b == std::byte{0}; }));
}

TEST(Journal, reads_its_writes_before_they_are_appended) {
  TestSite site;
  auto journal = *site.create();
  const Bytes first = TestSite::pattern(4096, 1), second = TestSite::pattern(4096, 2);
  Waiter one, two, got;
  ASSERT_TRUE(journal->write(VolumeId(1), 0, first, &one).ok());
  ASSERT_TRUE(journal->write(VolumeId(1), 4096, second, &two).ok());
  Bytes read(8192);
  journal->read(VolumeId(1), 0, read, got);
  EXPECT_FALSE(got.done);  // never from inside the call
  journal->tick();
  ASSERT_TRUE(got.done && got.status.ok());
  EXPECT_FALSE(one.done);
  EXPECT_TRUE(std::ranges::equal(ByteSpan(read).first(4096), first));
  EXPECT_TRUE(std::ranges::equal(ByteSpan(read).subspan(4096), second));
  site.settle(*journal);
}

TEST(Journal, acknowledges_in_order) {
  TestSite site;
  auto journal = *site.create();
  std::vector<Waiter> waiters(40);
  const Bytes data = TestSite::pattern(3000, 1);
  for (size_t i = 0; i < waiters.size(); ++i) {
    ASSERT_TRUE(site.run(*journal, [&] { return journal->accepting(); }));
    ASSERT_TRUE(journal->write(VolumeId(1), i * 3000, data, &waiters[i]).ok());
  }
  ASSERT_TRUE(site.run(*journal, [&] {
    for (size_t i = 1; i < waiters.size(); ++i) EXPECT_LE(waiters[i].done, waiters[i - 1].done);
    return waiters.back().done;
  }));
  EXPECT_EQ(journal->end().position.sequence, journal->status().accepted);
  site.settle(*journal);
}

TEST(Journal, syncs_by_itself_after_20_ms) {
  TestSite site;
  auto journal = *site.create();
  ASSERT_TRUE(site.write(*journal, 0, TestSite::pattern(512, 1)).ok());
  const Micros appended_at = site.scheduler.now();
  const Sequence last = journal->end().position.sequence;
  ASSERT_TRUE(site.run(*journal, [&] { return journal->durable_end().position.sequence == last; }));
  EXPECT_LE(site.scheduler.now().value, appended_at.value + 24'000);
  EXPECT_EQ(journal->durable_end(), journal->end());
}

TEST(Journal, carries_on_after_a_clean_close) {
  TestSite site;
  auto journal = *site.create();
  const Bytes data = TestSite::pattern(700'000, 3);
  ASSERT_TRUE(site.write(*journal, 1 << 20, data).ok());
  ASSERT_TRUE(site.close(*journal).ok());
  const LineEnd end = journal->end();
  journal.reset();
  auto again = *site.open();
  EXPECT_EQ(again->lineage().size(), 2u);
  EXPECT_EQ(again->lineage().back().body.parent, end.position);
  EXPECT_EQ(again->lineage().back().body.parent_chain, end.chain);
  EXPECT_EQ(again->lineage().back().first, end.position.sequence.next());
  EXPECT_EQ(*site.read(*again, 1 << 20, data.size()), data);
}

TEST(Journal, keeps_the_last_of_overlapping_writes_and_zeroes_through_many_segments) {
  TestSite site(7);
  auto journal = *site.create();
  Bytes model(300'000);
  sim::SimRng rng(9);
  for (int i = 0; i < 400; ++i) {
    const size_t length = rng.between(1, 9000);
    const uint64_t offset = rng.below(model.size() - length);
    if (rng.chance(1, 4)) {
      Waiter done;
      ASSERT_TRUE(journal->zero(VolumeId(1), offset, length, &done).ok());
      ASSERT_TRUE(site.wait(*journal, done).ok());
      std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), length, std::byte{0});
    } else {
      const Bytes data = TestSite::pattern(length, rng.next());
      ASSERT_TRUE(site.write(*journal, offset, data).ok());
      std::ranges::copy(data, model.begin() + static_cast<ptrdiff_t>(offset));
    }
    if (i % 100 == 99) {
      EXPECT_EQ(*site.read(*journal, 0, model.size()), model);
      if (i % 200 == 199) {
        ASSERT_TRUE(site.close(*journal).ok());
      } else {
        site.storage.kill_process();
        site.storage.reopen();
      }
      journal.reset();
      journal = *site.open();
      EXPECT_EQ(*site.read(*journal, 0, model.size()), model);
    }
  }
  EXPECT_GT(journal->status().segments, 10u);
}

TEST(Journal, keeps_what_was_flushed_through_100_power_losses) {
  TestSite site(11);
  auto journal = *site.create();
  sim::SimRng rng(12);
  std::map<uint64_t, uint64_t> flushed;  // block → seed
  for (int round = 0; round < 100; ++round) {
    std::map<uint64_t, std::vector<uint64_t>> maybe;
    for (int i = 0; i < 8; ++i) {
      const uint64_t block = rng.below(16);
      const uint64_t seed = rng.next();
      ASSERT_TRUE(site.write(*journal, block * 4096, TestSite::pattern(4096, seed)).ok());
      maybe[block].push_back(seed);
      if (rng.chance(1, 3)) {
        ASSERT_TRUE(site.flush(*journal).ok());
        for (const auto& [at, seeds] : maybe) flushed[at] = seeds.back();
        maybe.clear();
      }
    }
    site.storage.power_loss();
    site.storage.reopen();
    journal.reset();
    auto opened = site.open();
    ASSERT_TRUE(opened.ok()) << opened.error().describe();
    journal = std::move(*opened);
    for (uint64_t block = 0; block < 16; ++block) {
      const Bytes found = *site.read(*journal, block * 4096, 4096);
      const Bytes safe =
          flushed.contains(block) ? TestSite::pattern(4096, flushed[block]) : Bytes(4096);
      bool known = found == safe;
      for (uint64_t seed : maybe[block]) {
        if (found != TestSite::pattern(4096, seed)) continue;
        known = true;
        flushed[block] = seed;  // what an opened journal shows is durable
      }
      ASSERT_TRUE(known) << "round " << round << " block " << block;
    }
  }
}

TEST(Journal, gives_back_an_exact_prefix_after_a_power_loss) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TestSite site(seed);
    auto journal = *site.create();
    // Each write overwrites the same block: the block says how long the prefix is.
    uint64_t acknowledged = 0, written = 0;
    for (uint64_t i = 1; i <= 30; ++i) {
      Bytes block(4096);
      store_le(block.data(), i);
      ASSERT_TRUE(site.write(*journal, (i % 3) * 4096, block).ok());
      written = i;
      if (i % 7 == 0) {
        ASSERT_TRUE(site.flush(*journal).ok());
        acknowledged = i;
      }
    }
    site.storage.power_loss();
    site.storage.reopen();
    journal.reset();
    journal = *site.open();
    const Bytes found = *site.read(*journal, 0, 3 * 4096);
    std::array<uint64_t, 3> values{};
    for (size_t i = 0; i < 3; ++i) values[i] = load_le<uint64_t>(found.data() + i * 4096);
    const uint64_t newest = *std::ranges::max_element(values);
    EXPECT_GE(newest, acknowledged);
    EXPECT_LE(newest, written);
    for (uint64_t back = 0; back < 3; ++back) EXPECT_EQ(values[(newest - back) % 3], newest - back);
  }
}

TEST(Journal, is_final_about_a_failed_sync) {
  TestSite site;
  auto journal = *site.create();
  site.settle(*journal);
  ASSERT_TRUE(site.write(*journal, 0, TestSite::pattern(512, 1)).ok());
  site.storage.fail_next_syncs(1);
  EXPECT_FALSE(site.flush(*journal).ok());
  ASSERT_NE(journal->failed(), nullptr);
  EXPECT_FALSE(journal->failed()->effect.empty());
  EXPECT_FALSE(journal->failed()->mend.empty());
  EXPECT_FALSE(site.flush(*journal).ok());
  EXPECT_FALSE(journal->write(VolumeId(1), 0, TestSite::pattern(512, 1), nullptr).ok());
  EXPECT_FALSE(journal->accepting());
  EXPECT_TRUE(site.read(*journal, 0, 512).ok());
}

TEST(Journal, closes_on_a_full_disk_and_goes_on_when_there_is_room) {
  TestSite site;
  auto journal = *site.create();
  site.settle(*journal);
  const Bytes data = TestSite::pattern(512, 1);
  ASSERT_TRUE(site.write(*journal, 0, data).ok());
  ASSERT_TRUE(site.flush(*journal).ok());
  site.storage.set_capacity(site.storage.used_bytes());
  const Status closed = site.close(*journal);
  ASSERT_TRUE(closed.ok()) << closed.error().describe();
  EXPECT_TRUE(site.run(*journal, [&] { return journal->idle(); }));
  journal.reset();
  site.storage.set_capacity(UINT64_MAX);
  journal = *site.open();
  EXPECT_EQ(*site.read(*journal, 0, 512), data);
}

TEST(Journal, is_final_about_a_failed_append) {
  TestSite site;
  auto journal = *site.create();
  site.settle(*journal);
  site.storage.fail_next_writes(1);
  EXPECT_FALSE(site.write(*journal, 0, TestSite::pattern(512, 1)).ok());
  EXPECT_NE(journal->failed(), nullptr);
}

TEST(Journal, pushes_back_when_its_buffers_are_full) {
  TestSite site;
  auto journal = *site.create();
  const Bytes data = TestSite::pattern(kRecordDataMax, 1);
  uint64_t offset = 0;
  std::deque<Waiter> waiters;
  while (journal->accepting()) {
    ASSERT_TRUE(journal->write(VolumeId(1), offset, data, &waiters.emplace_back()).ok());
    offset += data.size();
    ASSERT_LT(waiters.size(), 10u);
  }
  EXPECT_EQ(journal->write(VolumeId(1), offset, data, nullptr).error().code, ErrorCode::kLimit);
  EXPECT_TRUE(site.wait(*journal, waiters.back()).ok());
  EXPECT_TRUE(journal->accepting());
  EXPECT_EQ(*site.read(*journal, offset - data.size(), data.size()), data);
}

TEST(Journal, refuses_a_second_creation_another_key_and_an_older_epoch) {
  TestSite site;
  site.epoch = Epoch(5);
  auto journal = *site.create();
  ASSERT_TRUE(site.close(*journal).ok());
  journal.reset();
  const auto before = site.snapshot();
  EXPECT_EQ(site.create().error().code, ErrorCode::kExists);
  EXPECT_EQ(Journal::open(site.storage, site.clock, site.rng, site.keys_of(0x44), site.options())
                .error()
                .code,
            ErrorCode::kWrongKey);
  site.epoch = Epoch(4);
  const Error older = site.open().error();
  EXPECT_EQ(older.code, ErrorCode::kConflict);
  EXPECT_FALSE(older.effect.empty() || older.mend.empty());
  site.epoch = Epoch(5);
  site.site.bytes.fill(std::byte{0x77});
  EXPECT_EQ(site.open().error().code, ErrorCode::kConflict);
  EXPECT_EQ(site.snapshot(), before);
  site.epoch = Epoch(6);
  auto promoted = site.open();
  EXPECT_TRUE(promoted.ok()) << promoted.error().describe();
}

TEST(Journal, neither_opens_nor_creates_where_the_manifest_was_lost_or_altered) {
  TestSite site;
  auto journal = *site.create();
  ASSERT_TRUE(site.write(*journal, 0, TestSite::pattern(512, 1)).ok());
  ASSERT_TRUE(site.close(*journal).ok());
  journal.reset();
  const Bytes manifest = *site.storage.contents(kManifestName);
  for (size_t at = 0; at < manifest.size(); at += 13) {
    const std::byte flipped = manifest[at] ^ std::byte{1};
    site.storage.tamper(kManifestName, at, ByteSpan(&flipped, 1));
    const auto opened = site.open();
    ASSERT_FALSE(opened.ok());
    EXPECT_NE(opened.error().cause.find("MANIFEST"), std::string::npos);
    site.storage.tamper(kManifestName, at, ByteSpan(&manifest[at], 1));
  }
  ASSERT_TRUE(site.storage.remove(kManifestName).ok());
  const auto before = site.snapshot();
  EXPECT_EQ(site.open().error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(site.create().error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(ReplicaJournal::create(site.storage, site.clock, site.replica_options()).error().code,
            ErrorCode::kCorrupt);
  EXPECT_EQ(site.snapshot(), before);
}

TEST(Journal, reads_any_part_of_a_record_that_begins_and_ends_within_blocks) {
  TestSite site(8);
  auto journal = *site.create();
  sim::SimRng rng(3);
  Bytes model(2u << 20);
  for (const size_t length : {size_t{1}, size_t{4097}, size_t{200'001}, kRecordDataMax}) {
    const uint64_t offset = 4095 + rng.below(4096);
    const Bytes data = TestSite::pattern(length, length);
    ASSERT_TRUE(site.write(*journal, offset, data).ok());
    std::ranges::copy(data, model.begin() + static_cast<ptrdiff_t>(offset));
    for (int i = 0; i < 20; ++i) {
      const size_t size = rng.between(1, 300'000);
      const uint64_t from = rng.below(model.size() - size);
      const auto part = ByteSpan(model).subspan(from, size);
      EXPECT_EQ(*site.read(*journal, from, size), Bytes(part.begin(), part.end()));
    }
  }
}

// What an older build made is neither taken for a torn tail nor made over.
TEST(Journal, says_that_a_journal_of_an_older_format_is_not_read_and_leaves_it_alone) {
  TestSite site;
  ASSERT_TRUE(site.write(**site.create(), 0, TestSite::pattern(512, 1)).ok());
  site.storage.kill_process();
  site.storage.reopen();
  site.storage.tamper(kManifestName, 4, as_bytes(std::string_view("\2\0", 2)));
  const auto before = site.snapshot();
  const auto opened = site.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(opened.error().cause.find("format 2"), std::string::npos) << opened.error().cause;
  EXPECT_EQ(site.create().error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(ReplicaJournal::open(site.storage, site.clock, site.replica_options()).error().code,
            ErrorCode::kUnsupported);
  EXPECT_EQ(site.snapshot(), before);
}

TEST(Journal, refuses_a_line_that_lacks_what_the_vault_saw_durable) {
  TestSite site;
  auto journal = *site.create();
  ASSERT_TRUE(site.write(*journal, 0, TestSite::pattern(512, 1), AckAt::kDurable).ok());
  ASSERT_TRUE(site.close(*journal).ok());
  journal.reset();
  const auto old = site.snapshot();
  journal = *site.open();
  ASSERT_TRUE(site.write(*journal, 0, TestSite::pattern(512, 2), AckAt::kDurable).ok());
  const LineEnd seen = journal->durable_end();
  ASSERT_TRUE(site.close(*journal).ok());
  journal.reset();
  Options options = site.options();
  options.known_durable = seen;
  // The right one, also with more than was seen.
  ASSERT_TRUE(Journal::open(site.storage, site.clock, site.rng, site.keys(), options).ok());
  // An older copy of the whole directory.
  const std::vector<std::string> names = *site.storage.list();
  for (const std::string& name : names) ASSERT_TRUE(site.storage.remove(name).ok());
  for (const auto& [name, bytes] : old) {
    const FileId file = *site.storage.open(name, OpenMode::kCreate);
    ASSERT_TRUE(site.storage.write_now(file, 0, bytes).ok());
  }
  const auto opened = Journal::open(site.storage, site.clock, site.rng, site.keys(), options);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kConflict);
  EXPECT_FALSE(opened.error().effect.empty() || opened.error().mend.empty());
  EXPECT_EQ(site.snapshot(), old);
}

TEST(Journal, names_file_and_difference_when_a_closed_segment_was_altered) {
  TestSite site(3);
  auto journal = *site.create();
  for (int i = 0; i < 60; ++i)
    ASSERT_TRUE(site.write(*journal, i * 4096ull, TestSite::pattern(4096, i)).ok());
  ASSERT_TRUE(site.close(*journal).ok());
  journal.reset();
  const auto good = site.snapshot();
  size_t flips = 0;
  for (const auto& [name, bytes] : good) {
    if (!name.starts_with("segment-")) continue;
    // What follows the footer of a full segment is zero and means nothing; so is the next one.
    size_t end = bytes.size();
    while (end > 0 && bytes[end - 1] == std::byte{0}) --end;
    for (uint64_t at = 3; at < end; at += 1501) {
      const std::byte flipped = bytes[at] ^ std::byte{0x10};
      site.storage.tamper(name, at, ByteSpan(&flipped, 1));
      auto opened = site.open();
      ASSERT_FALSE(opened.ok()) << name << " at " << at << " of " << bytes.size();
      EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
      EXPECT_NE(opened.error().cause.find(name), std::string::npos) << opened.error().describe();
      EXPECT_FALSE(opened.error().mend.empty());
      site.storage.tamper(name, at, ByteSpan(&bytes[at], 1));
      ++flips;
    }
  }
  EXPECT_GT(flips, 100u);
  EXPECT_EQ(site.snapshot(), good);
  EXPECT_TRUE(site.open().ok());
}

}  // namespace
}  // namespace hf::journal
