// What maps cost: bytes an entry, pages a lookup, memory, and the time until a position can be
// read. The bars are checked small; HOLDFAST_MEASURE=1 measures 4 Mi records and prints more.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "journal/chain/statement.h"
#include "journal/chain/test_overwritten.h"

namespace hf::journal {
namespace {

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

TEST(MapCost, of_entries_and_lookups) {
  const bool full = std::getenv("HOLDFAST_MEASURE") != nullptr;
  const uint64_t segments = full ? 255 : 15;
  const uint64_t blocks = full ? 4u << 20 : 256u << 10;
  const size_t cache = full ? 32u << 20 : 4u << 20;
  Overwritten disk(blocks, segments, cache);
  uint64_t entries = 0, bytes = 0, written = 0;
  for (const Table* map : disk.chain.maps) {
    entries += map->footer.entries;
    bytes += map->footer.length;
  }
  for (const auto& [run, map] : disk.maps) written += map->footer.length;
  sim::SimRng rng(2);
  std::vector<uint64_t> pages, looked;
  disk.files.reads = 0;
  const int lookups = full ? 50'000 : 4'000;
  const auto begin = Clock::now();
  for (int i = 0; i < lookups; ++i) {
    Lookup lookup(disk.chain, disk.files.cache, VolumeId(1),
                  {.offset = rng.below(blocks) * kBlockSize, .length = kBlockSize});
    const uint64_t before = disk.files.reads;
    ASSERT_EQ(*disk.files.run(lookup), Step::kEnd);
    if (i < lookups / 2) continue;  // warm by then
    pages.push_back(disk.files.reads - before);
    looked.push_back(lookup.blocks_looked_at());
  }
  const double us = ms_since(begin) * 1000 / lookups;
  std::ranges::sort(pages);
  std::ranges::sort(looked);
  double mean = 0;
  for (uint64_t each : pages) mean += static_cast<double>(each) / static_cast<double>(pages.size());
  const double entry = static_cast<double>(bytes) / static_cast<double>(entries);
  std::printf(
      "%llu segments, chain of %zu maps, %llu entries, %.1f MiB: %.1f bytes an entry, %.2f bytes "
      "written "
      "a record; lookups: %.2f pages read on average, p50 %llu, p99 %llu, blocks looked at p99 "
      "%llu, "
      "%.1f us; cache %.1f MiB = %.1f bytes an entry\n",
      static_cast<unsigned long long>(segments), disk.chain.maps.size(),
      static_cast<unsigned long long>(entries), static_cast<double>(bytes) / 1048576, entry,
      static_cast<double>(written) / static_cast<double>(segments * Overwritten::kRecords), mean,
      static_cast<unsigned long long>(pages[pages.size() / 2]),
      static_cast<unsigned long long>(pages[pages.size() * 99 / 100]),
      static_cast<unsigned long long>(looked[looked.size() * 99 / 100]), us,
      static_cast<double>(disk.files.cache.bytes()) / 1048576,
      static_cast<double>(disk.files.cache.bytes()) / static_cast<double>(entries));
  EXPECT_LE(entry, 34);
  EXPECT_LE(disk.files.cache.bytes(), cache);
  EXPECT_LE(looked[looked.size() * 99 / 100], 3u) << "filters keep lookups off blocks";
}

// A position is open when its chain is named and believed: a footer and a signature a map.
TEST(MapCost, of_opening_does_not_grow_with_the_journal) {
  crypto::SigningKey key{crypto::Secret(32)};
  MapStatement statement{.run = {.a = 0, .b = 1}};
  statement.end.end.position.sequence = Sequence(1);
  TableFooter footer{.length = kTableFooterSize};
  sign_map(statement, key, footer);
  const Bytes bytes = encode_table_footer(footer);
  for (const uint64_t segments : {63ull, 511ull, 4095ull, 32767ull}) {
    size_t maps = 0;
    for (uint64_t rest = segments; rest > 0; rest /= 8) maps += rest % 8;
    const auto begin = Clock::now();
    for (size_t i = 0; i < maps; ++i) {
      ASSERT_TRUE(check_map(*decode_table_footer(bytes), key.public_key()).ok());
    }
    const double ms = ms_since(begin);
    std::printf("%6llu segments (%llu GiB of 64 MiB): %zu footers checked in %.1f ms\n",
                static_cast<unsigned long long>(segments),
                static_cast<unsigned long long>(segments / 16), maps, ms);
    EXPECT_LT(ms, 200);
  }
}

}  // namespace
}  // namespace hf::journal
