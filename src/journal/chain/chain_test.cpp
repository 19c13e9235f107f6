// Maps, merging, lookup, iteration and what changed, each judged by the plain model.
#include <gtest/gtest.h>

#include "journal/chain/test_line.h"

namespace hf::journal {
namespace {

struct Faults {
  bool filters_lie = false;
  bool merged_in_the_wrong_order = false;
  bool zeroes_dropped = false;
};

// Nullopt if everything the chain at `position` says is the model's; else what differs.
std::optional<std::string> differs_at(TestLine& line, size_t position, const Faults& faults = {}) {
  const uint64_t n = line.ordinal_at(position);
  Present front;
  line.fill(front, line.ends[n], position);
  const auto runs = cover(0, n, line.there());
  if (!runs) return "no chain";
  Chain chain{.fronts = {&front}, .maps = {}};
  for (const SegmentRun& run : *runs) chain.maps.push_back(line.maps.at(run));
  if (faults.merged_in_the_wrong_order && chain.maps.size() > 1) {
    std::swap(chain.maps[0], chain.maps[1]);
  }
  for (int i = 0; i < 30; ++i) {
    const VolumeId volume(static_cast<uint32_t>(line.rng.below(line.options.volumes)));
    const uint64_t cells = line.rng.between(1, std::min<uint64_t>(line.options.cells, 64));
    const Range range{.offset = line.rng.below(line.options.cells - cells + 1) * line.options.cell,
                      .length = cells * line.options.cell};
    Lookup lookup(chain, line.files.cache, volume, range);
    lookup.filters_lie = faults.filters_lie;
    const auto step = line.files.run(lookup);
    if (!step.ok()) return step.error().describe();
    std::map<uint64_t, uint64_t> owners;
    for (const Range& open : lookup.open()) {
      for (uint64_t at = open.offset; at < open.end(); at += line.options.cell) owners[at] = 0;
    }
    const std::vector<Extent> answered = lookup.found();
    for (const Extent& extent : answered) {
      const Extent& record = line.records[extent.sequence.value - 1];
      if (record.offset + extent.skip != extent.offset || record.leaf != extent.leaf ||
          record.place != extent.place || record.segment != extent.segment) {
        return "an extent that its record doesn't have";
      }
      for (uint64_t at = extent.offset; at < extent.end(); at += line.options.cell) {
        owners[at] = extent.sequence.value;
      }
    }
    if (owners.size() != cells) return "bytes unanswered, or answered twice";
    for (const auto& [at, owner] : owners) {
      if (owner != line.owner(position, volume, at)) return "another record's bytes";
    }
  }
  // In order, all of it.
  MergedSource::Sources sources;
  const std::vector<Extent> sorted = front.sorted();
  sources.push_back(std::make_unique<SpanSource>(sorted));
  for (const Table* map : chain.maps) {
    sources.push_back(std::make_unique<MapSource>(*map, line.files.cache));
  }
  MergedSource merged(std::move(sources),
                      {.zeroes = faults.zeroes_dropped ? MergedSource::Zeroes::kDrop
                                                       : MergedSource::Zeroes::kKeep});
  const auto extents = line.files.all(merged);
  if (!extents.ok()) return extents.error().describe();
  TestLine::Owners owners(line.model(position).size());
  for (const Extent& extent : *extents) {
    const uint64_t at =
        extent.volume.value * line.options.cells + extent.offset / line.options.cell;
    std::fill_n(owners.begin() + static_cast<ptrdiff_t>(at), extent.length / line.options.cell,
                extent.sequence.value);
  }
  if (owners != line.model(position)) return "iteration shows another disk";
  return std::nullopt;
}

TEST(Chain, shows_what_the_model_shows_at_every_position) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    // A cache of one page: whoever walks must get on with it.
    TestLine line(seed, {.records_per_segment = 5, .cache_bytes = seed % 2 == 0 ? 1u : 1u << 20});
    while (line.closed < 70) line.write_record();
    line.write_record();
    for (size_t position = 0; position <= line.records.size(); ++position) {
      const auto differs = differs_at(line, position);
      ASSERT_FALSE(differs) << "seed " << seed << " position " << position << ": " << *differs;
    }
  }
}

TEST(Chain, is_right_where_maps_have_many_blocks_and_pages) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    TestLine line(seed, {.cells = 60'000,
                         .cell = seed == 2 ? 4096u : 512u,
                         .records_per_segment = seed == 1 ? 1500u : 5000u,
                         .length_max = seed == 1 ? 300u : 3u,
                         .checkpoint_every = 10'000});
    while (line.closed < 9) line.write_record();
    for (int i = 0; i < 20; ++i) line.write_record();
    const Table* large = line.maps.at({.a = 0, .b = 8});
    if (seed != 1) EXPECT_GT(large->footer.levels, 1) << large->footer.length;
    for (int i = 0; i < 25; ++i) {
      const size_t position = line.rng.below(line.records.size() + 1);
      const auto differs = differs_at(line, position);
      ASSERT_FALSE(differs) << "seed " << seed << " position " << position << ": " << *differs;
    }
  }
}

TEST(Chain, maps_are_the_same_bytes_however_they_are_merged) {
  TestLine line(3, {.cells = 3000, .records_per_segment = 60});
  while (line.closed < 64) line.write_record();
  for (const auto& [run, map] : line.maps) {
    Present whole;
    line.fill(whole, line.ends[run.a], line.ends[run.b]);
    const Table* direct = line.files.write<ExtentCodec>(whole.sorted());
    ASSERT_EQ(line.files.files[direct->number], line.files.files[map->number])
        << run.a << ".." << run.b;
  }
  EXPECT_TRUE(line.maps.contains({.a = 0, .b = 64}));
}

TEST(Chain, tells_what_changed_between_two_positions) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    TestLine line(seed, {.records_per_segment = 7});
    while (line.closed < 30) line.write_record();
    for (int i = 0; i < 200; ++i) {
      const size_t q = line.rng.below(line.records.size() + 1);
      const size_t p = line.rng.below(q + 1);
      const uint64_t first = line.ordinal_at(p);
      const uint64_t last = line.ordinal_at(q);
      Present front, back;
      MergedSource::Sources sources;
      if (first == last) {
        line.fill(front, p, q);
      } else {
        line.fill(front, line.ends[last], q);
        line.fill(back, p, line.ends[first + 1]);
      }
      const std::vector<Extent> newest = front.sorted();
      const std::vector<Extent> oldest = back.sorted();
      sources.push_back(std::make_unique<SpanSource>(newest));
      if (first < last) {
        MergedSource::Sources maps = line.sources_of(*cover(first + 1, last, line.there()));
        for (auto& map : maps) sources.push_back(std::move(map));
      }
      sources.push_back(std::make_unique<SpanSource>(oldest));
      MergedSource changed(std::move(sources));
      TestLine::Owners owners(line.model(q).size());
      const std::vector<Extent> extents = *line.files.all(changed);
      for (const Extent& extent : extents) {
        const uint64_t at = extent.volume.value * line.options.cells + extent.offset;
        std::fill_n(owners.begin() + static_cast<ptrdiff_t>(at), extent.length,
                    extent.sequence.value);
      }
      for (size_t at = 0; at < owners.size(); ++at) {
        const uint64_t now = line.model(q)[at];
        ASSERT_EQ(owners[at], now > p ? now : 0) << p << ".." << q << " cell " << at;
      }
    }
  }
}

// A root leaves zeroes out where nothing lies under it, and shows the same bytes.
TEST(Chain, a_root_without_zeroes_reads_as_the_chain_that_it_replaces) {
  TestLine line(5, {.records_per_segment = 9});
  while (line.closed < 20) line.write_record();
  MergedSource merged(line.sources_of(*cover(0, 20, line.there())),
                      {.zeroes = MergedSource::Zeroes::kDrop});
  const Table* root = line.files.write<ExtentCodec>(*line.files.all(merged));
  const Chain chain{.maps = {root}};
  for (uint32_t volume = 0; volume < line.options.volumes; ++volume) {
    Lookup lookup(chain, line.files.cache, VolumeId(volume), {.length = line.options.cells});
    ASSERT_EQ(*line.files.run(lookup), Step::kEnd);
    TestLine::Owners owners(line.options.cells);
    const std::vector<Extent> found = lookup.found();
    for (const Extent& extent : found) {
      EXPECT_FALSE(extent.zero);
      std::fill_n(owners.begin() + static_cast<ptrdiff_t>(extent.offset), extent.length,
                  extent.sequence.value);
    }
    for (uint64_t at = 0; at < owners.size(); ++at) {
      const uint64_t model = line.owner(line.ends[20], VolumeId(volume), at);
      const bool zeroed = model > 0 && line.records[model - 1].zero;
      ASSERT_EQ(owners[at], zeroed ? 0 : model);
    }
  }
}

TEST(ChainFaults, are_found_by_the_model) {
  const auto found = [](const Faults& faults) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      TestLine line(seed, {.records_per_segment = 5});
      while (line.closed < 20) line.write_record();
      if (differs_at(line, line.records.size(), faults)) return true;
    }
    return false;
  };
  EXPECT_FALSE(found({}));
  EXPECT_TRUE(found({.filters_lie = true}));
  EXPECT_TRUE(found({.merged_in_the_wrong_order = true}));
  EXPECT_TRUE(found({.zeroes_dropped = true})) << "over a backing, or past a bookmark";
}

TEST(ChainFaults, a_map_merged_with_the_oldest_first_is_another_map) {
  TestLine line(8, {.records_per_segment = 20});
  while (line.closed < 8) line.write_record();
  MergedSource wrong(line.sources_of(parts_of({.a = 0, .b = 8})), {.oldest_wins = true});
  const Table* other = line.files.write<ExtentCodec>(*line.files.all(wrong));
  EXPECT_NE(other->footer.root.hash, line.maps.at({.a = 0, .b = 8})->footer.root.hash);
}

// Each byte of a record is hidden once, by a record after it, or shows at the end.
TEST(Hidden, every_byte_of_a_record_is_told_once_or_shows) {
  struct Heard final : HiddenVisitor {
    void on_hidden(const Extent& piece, Sequence by) override {
      ASSERT_LT(piece.sequence, by);
      bytes[piece.sequence.value] += piece.length;
    }
    std::map<uint64_t, uint64_t> bytes;
  };
  TestLine line(9, {.records_per_segment = 10});
  Heard heard;
  while (line.closed < 24) line.write_record();
  // Within each segment; then each run of T against itself and the chain behind.
  std::vector<std::vector<Extent>> tables;
  for (uint64_t n = 0; n < line.closed; ++n) {
    Present table;
    for (size_t i = line.ends[n]; i < line.ends[n + 1]; ++i) table.insert(line.records[i], &heard);
    tables.push_back(table.sorted());
  }
  for (uint64_t b = 8; b <= line.closed; b += 8) {
    MergedSource within(line.sources_of(parts_of({.a = b - 8, .b = b})), {.hidden = &heard});
    const std::vector<Extent> run = *line.files.all(within);
    if (b == 8) continue;
    MergedSource::Sources sources;
    sources.push_back(std::make_unique<SpanSource>(run));
    // The chain behind, already merged: only what this run hides is to be heard.
    sources.push_back(
        std::make_unique<MergedSource>(line.sources_of(*cover(0, b - 8, line.there()))));
    MergedSource against(std::move(sources), {.hidden = &heard});
    static_cast<void>(*line.files.all(against));
  }
  for (uint64_t owner : line.model(line.records.size())) {
    if (owner > 0) heard.bytes[owner] += 1;
  }
  for (const Extent& record : line.records) {
    EXPECT_EQ(heard.bytes[record.sequence.value], record.length) << record.sequence.value;
  }
}

TEST(Schedule, covers_any_end_with_at_most_seven_runs_a_level) {
  std::set<SegmentRun> there;
  for (uint64_t b = 1; b <= 1200; ++b) {
    const std::vector<SegmentRun> due = runs_due(b);
    for (size_t level = 0; level < due.size(); ++level) {
      there.insert(due[level]);
      EXPECT_EQ(level_of(due[level]), level);
      EXPECT_EQ(due[level].b, b);
      if (level > 0) {
        const std::vector<SegmentRun> parts = parts_of(due[level]);
        ASSERT_EQ(parts.size(), kMapFanIn);
        EXPECT_EQ(parts.front().b, b);
        EXPECT_EQ(parts.back().a, due[level].a);
        for (const SegmentRun& part : parts) EXPECT_TRUE(there.contains(part));
      }
    }
    size_t digits = 0;
    for (uint64_t rest = b; rest > 0; rest /= 8) digits += rest % 8;
    EXPECT_EQ(cover(0, b, there)->size(), digits);
  }
  EXPECT_EQ(cover(3, 1100, there)->back().a, 3u);
  there.erase({.a = 1100, .b = 1101});
  EXPECT_FALSE(cover(0, 1101, there));
  EXPECT_EQ(level_of({.a = 3, .b = 11}), std::nullopt) << "not aligned";
}

}  // namespace
}  // namespace hf::journal
