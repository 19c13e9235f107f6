// A MANIFEST that lost its last edits, or was replaced by an older one, must not make a journal
// shorter in silence, and must not cost a file.
#include <gtest/gtest.h>

#include "journal/test_world.h"

namespace hf::journal {
namespace {

// Every MANIFEST that a journal ever had, and what the journal held when it ended.
std::vector<Bytes> live(TestSite& site, uint64_t writes, Options options) {
  std::vector<Bytes> manifests;
  auto journal = *Journal::create(site.storage, site.clock, site.rng, site.keys(), options);
  const auto note = [&] {
    Bytes now = *site.storage.contents(kManifestName);
    if (manifests.empty() || manifests.back() != now) manifests.push_back(std::move(now));
  };
  for (uint64_t i = 0; i < writes; ++i) {
    EXPECT_TRUE(site.write(*journal, i % 40 * 8192, TestSite::pattern(8192, i)).ok());
    note();
  }
  EXPECT_TRUE(site.flush(*journal).ok());
  site.settle(*journal);
  note();
  site.storage.kill_process();
  site.storage.reopen();
  return manifests;
}

void replace(TestSite& site, const Bytes& manifest) {
  ASSERT_TRUE(site.storage.remove(kManifestName).ok());
  const FileId file = *site.storage.open(kManifestName, OpenMode::kCreate);
  ASSERT_TRUE(site.storage.write_now(file, 0, manifest).ok());
  ASSERT_TRUE(site.storage.close(file).ok());
}

class ManifestCut : public testing::TestWithParam<bool> {};  // with merging?
INSTANTIATE_TEST_SUITE_P(Of, ManifestCut, testing::Values(false, true),
                         [](const auto& of) { return of.param ? "merged" : "kept"; });

TEST_P(ManifestCut, shows_or_changes_nothing_that_the_journal_holds) {
  size_t refused = 0;
  size_t whole = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    constexpr uint64_t kWrites = 120;
    TestSite site(seed);
    site.log_options.prepare_next = seed % 2 == 0;
    Options options = site.options();
    if (GetParam()) options.merge_keep_segments = options.merge_batch_segments = 2;
    const std::vector<Bytes> manifests = live(site, kWrites, options);
    ASSERT_GT(manifests.size(), 10u);
    const auto lived = site.snapshot();
    for (const Bytes& manifest : manifests) {
      TestSite other(seed + 1000);
      for (const auto& [name, bytes] : lived) {
        const FileId file = *other.storage.open(name, OpenMode::kCreate);
        ASSERT_TRUE(other.storage.write_now(file, 0, bytes).ok());
        ASSERT_TRUE(other.storage.close(file).ok());
      }
      replace(other, manifest);
      const auto before = other.snapshot();
      auto opened = other.open();
      if (!opened.ok()) {
        ++refused;
        EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt) << opened.error().describe();
        EXPECT_EQ(other.snapshot(), before) << "nothing was changed";
        continue;
      }
      ++whole;
      for (uint64_t i = kWrites - 40; i < kWrites; ++i) {
        ASSERT_EQ(*other.read(**opened, i % 40 * 8192, 8192), TestSite::pattern(8192, i))
            << "seed " << seed;
      }
    }
  }
  // Both happen: an edit that only noted a close is not missed.
  EXPECT_GT(refused, 20u);
  EXPECT_GT(whole, 5u);
}

// Is there a segment's file that MANIFEST, as a successor would read it, does not list any more?
bool something_retired(TestSite& site) {
  const auto bytes = site.storage.contents(kManifestName);
  if (!bytes) return false;
  const Manifest manifest = *decode_manifest(*bytes);
  if (manifest.bases.empty()) return false;
  const std::set<std::string> listed = names_of(manifest);
  for (const std::string& name : *site.storage.list()) {
    if (!name.starts_with("segment-") || listed.contains(name)) continue;
    const auto header = decode_segment_header(*site.storage.contents(name));
    if (header.ok() && header->first_sequence.value > 0) return true;
  }
  return false;
}

// A process dies on its way of retiring files; its successor removes what MANIFEST no longer lists;
// then the power goes. What the older MANIFEST lists must still be there, if it can come back.
TEST(ManifestDurable, before_a_successor_removes_what_it_does_not_list) {
  size_t cases = 0;
  for (uint64_t seed = 0; cases < 60; ++seed) {
    ASSERT_LT(seed, 4000u);
    TestSite site(seed);
    sim::SimRng chance(seed);
    site.log_options.prepare_next = seed % 2 == 0;
    Options options = site.options();
    options.merge_keep_segments = 1;
    options.merge_batch_segments = 2;
    options.log.recycled_files_max = 0;
    auto journal = *Journal::create(site.storage, site.clock, site.rng, site.keys(), options);
    std::array<uint64_t, 16> safe{};
    std::array<std::vector<uint64_t>, 16> maybe;
    site.storage.die_after(chance.between(200, 1200));
    for (uint64_t i = 1; i < 400; ++i) {
      Waiter done;
      maybe[i % 16].push_back(i);
      if (!journal->write(VolumeId(1), i % 16 * 8192, TestSite::pattern(8192, i), &done).ok())
        break;
      if (!site.run(*journal, [&] { return done.done || !site.storage.alive(); })) break;
      if (!done.done || !done.status.ok()) break;
      if (i % 16 != 0) continue;
      Waiter flushed;
      journal->flush(flushed);
      if (!site.run(*journal, [&] { return flushed.done || !site.storage.alive(); })) break;
      if (!flushed.done || !flushed.status.ok()) break;
      for (size_t b = 0; b < 16; ++b) {
        if (!maybe[b].empty()) safe[b] = maybe[b].back();
        maybe[b].clear();
      }
    }
    site.storage.kill_process();
    site.storage.reopen();
    journal.reset();
    if (!something_retired(site)) continue;
    ++cases;
    site.storage.die_after(chance.between(5, 80));
    static_cast<void>(Journal::open(site.storage, site.clock, site.rng, site.keys(), options).ok());
    site.storage.power_loss();
    site.storage.reopen();
    auto opened = Journal::open(site.storage, site.clock, site.rng, site.keys(), options);
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    for (size_t b = 0; b < 16; ++b) {
      const Bytes found = *site.read(**opened, b * 8192, 8192);
      bool known = found == (safe[b] == 0 ? Bytes(8192) : TestSite::pattern(8192, safe[b]));
      for (uint64_t value : maybe[b]) known = known || found == TestSite::pattern(8192, value);
      ASSERT_TRUE(known) << "seed " << seed << " block " << b;
    }
  }
}

}  // namespace
}  // namespace hf::journal
