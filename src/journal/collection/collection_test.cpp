// What may go and what has to stay: liveness judged by a model, survivors, the order of what
// destroys.
#include <gtest/gtest.h>

#include "journal/chain/test_line.h"
#include "journal/collection/batch.h"
#include "journal/collection/death_finder.h"
#include "journal/collection/deaths.h"
#include "journal/collection/locator.h"
#include "journal/collection/survivor.h"
#include "journal/collection/victims.h"

namespace hf::journal {
namespace {

struct DeathsHeard final : HiddenVisitor {
  void on_hidden(const Extent& piece, Sequence by) override {
    deaths.push_back({.segment = piece.segment,
                      .place = piece.place,
                      .skip = piece.skip,
                      .length = piece.length,
                      .by = by});
  }
  std::vector<Death> deaths;
};

// Deaths as the schedule finds them: within each segment, then each run of T against the rest.
std::vector<Death> find_deaths(TestLine& line) {
  DeathsHeard heard;
  for (uint64_t n = 0; n < line.closed; ++n) {
    Present table;
    for (size_t i = line.ends[n]; i < line.ends[n + 1]; ++i) table.insert(line.records[i], &heard);
  }
  for (uint64_t b = 8; b <= line.closed; b += 8) {
    MergedSource within(line.sources_of(parts_of({.a = b - 8, .b = b})), {.hidden = &heard});
    const std::vector<Extent> run = *line.files.all(within);
    SpanSource newer(run);
    Chain behind;
    const std::vector<SegmentRun> runs = *cover(0, b - 8, line.there());
    for (const SegmentRun& each : runs) behind.maps.push_back(line.maps.at(each));
    DeathFinder finder(newer, behind, line.files.cache, heard);
    EXPECT_EQ(*line.files.run(finder), Step::kEnd);
  }
  std::ranges::sort(heard.deaths, {}, &Death::key);
  return heard.deaths;
}

TEST(Liveness, keeps_each_unit_that_a_retained_position_shows_and_drops_what_none_does) {
  uint64_t dropped = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    // Cells of 1 KiB: four to a unit.
    TestLine line(seed, {.cells = 120, .cell = 1024, .records_per_segment = 10, .length_max = 20});
    while (line.closed < 24) line.write_record();
    const std::vector<Death> deaths = find_deaths(line);
    Retained retained{Sequence(line.records.size())};
    for (int i = 0; i < 3; ++i) retained.emplace_back(line.rng.below(line.records.size()));
    std::ranges::sort(retained);
    for (const Extent& record : line.records) {
      if (record.zero) continue;
      std::vector<Death> of_it;
      for (const Death& death : deaths) {
        if (death.segment == record.segment && death.place == record.place) of_it.push_back(death);
      }
      const UnitLayout layout(record.offset, record.length);
      const LiveUnits live = live_units(layout, record.sequence, of_it, retained);
      for (size_t i = 0; i < layout.count(); ++i) {
        bool shown = false;
        for (const Sequence position : retained) {
          for (uint64_t at = 0; at < layout.unit(i).length; at += 1024) {
            shown = shown || line.owner(position.value, record.volume,
                                        layout.unit(i).offset + at) == record.sequence.value;
          }
        }
        // What a run hid twice is told with the later of both: it may live a little longer.
        if (shown) ASSERT_TRUE(live[i]) << "a unit that a point shows was dropped";
        if (!live[i]) ++dropped;
      }
      // With the end alone retained, nothing that is found dead may show, and all of it is found.
      const LiveUnits now =
          live_units(layout, record.sequence, of_it, {Sequence(line.records.size())});
      for (size_t i = 0; i < layout.count(); ++i) {
        bool shown = false;
        for (uint64_t at = 0; at < layout.unit(i).length; at += 1024) {
          shown = shown || line.owner(line.records.size(), record.volume,
                                      layout.unit(i).offset + at) == record.sequence.value;
        }
        ASSERT_EQ(now[i], shown);
      }
    }
  }
  EXPECT_GT(dropped, 500u);
}

TEST(DeathList, and_locator_are_tables_that_give_back_what_was_put_in) {
  sim::SimRng rng(1);
  TableFiles files;
  std::map<TableKey, Death> deaths;
  std::map<TableKey, Location> locations;
  for (int i = 0; i < 20'000; ++i) {
    const Death death{.segment = rng.below(300),
                      .place = rng.below(1u << 20) * 64,
                      .skip = rng.below(256) * 4096,
                      .length = rng.between(1, 4096),
                      .by = Sequence(rng.below(1u << 30))};
    deaths[death.key()] = death;
    const Location location{.segment = death.segment,
                            .place = death.place,
                            .file = rng.below(100),
                            .offset = rng.below(1u << 20) * 64};
    locations[location.key()] = location;
  }
  const auto values = [](const auto& map) {
    std::vector<typename std::decay_t<decltype(map)>::mapped_type> all;
    for (const auto& [key, value] : map) all.push_back(value);
    return all;
  };
  const Table* list = files.write<DeathCodec>(values(deaths));
  const Table* locator = files.write<LocationCodec>(values(locations));
  TableCursor<DeathCodec> cursor(*list, files.cache);
  cursor.seek({.major = 100});  // one victim's part
  for (auto at = deaths.lower_bound({.major = 100}); at != deaths.end(); ++at) {
    ASSERT_EQ(*files.run(cursor), Step::kReady);
    ASSERT_EQ(cursor.entry(), at->second);
    cursor.next();
  }
  EXPECT_EQ(*files.run(cursor), Step::kEnd);
  for (int i = 0; i < 500; ++i) {
    auto at = locations.begin();
    std::advance(at, static_cast<long>(rng.below(locations.size())));
    TableCursor<LocationCodec> found(*locator, files.cache);
    found.seek(at->first);
    ASSERT_EQ(*files.run(found), Step::kReady);
    ASSERT_EQ(found.entry(), at->second);
  }
}

Survivor survivor_of(sim::SimRng& rng, uint64_t offset, uint64_t length) {
  const UnitLayout layout(offset, length);
  Bytes payload(layout.stored_size());
  rng.fill(payload);
  RecordHeader header;
  header.kind = RecordKind::kWrite;
  header.sequence = Sequence(5);
  header.volume = VolumeId(1);
  header.offset = offset;
  header.length = length;
  header.payload_length = static_cast<uint32_t>(sealed_size(offset, length));
  header.payload_digest = payload_root(layout, payload);
  Survivor survivor{.segment = 7, .place = 640};
  encode_header(header, survivor.header);
  survivor.live.assign(layout.count(), false);
  for (size_t i = 0; i < layout.count(); i += 3) survivor.live[i] = true;
  survivor.payload = prune(layout, payload, survivor.live);
  return survivor;
}

TEST(Survivor, proves_itself_and_no_altered_one_does) {
  sim::SimRng rng(2);
  for (const uint64_t length : {uint64_t{512}, uint64_t{4096}, uint64_t{50'000}}) {
    const Survivor survivor = survivor_of(rng, 4096 * 3 + 512, length);
    Bytes bytes = encode_survivor(survivor);
    const Result<Survivor> found = decode_survivor(bytes);
    ASSERT_TRUE(found.ok()) << found.error().describe();
    EXPECT_EQ(encode_survivor(*found), bytes);
    EXPECT_EQ(found->stored_size(), bytes.size());
    const size_t used = kSurvivorFixedSize + (survivor.live.size() + 63) / 64 * 8 +
                        survivor.payload.hashes.size() * 32 + survivor.payload.units.size();
    // Segment, place and the chain before the record are checked elsewhere: by the locator's key,
    // and by the leaf.
    for (size_t at = 0; at < used; ++at) {
      if (at >= 8 && at < 24) continue;
      Bytes bad = bytes;
      bad[at] ^= std::byte{1};
      EXPECT_FALSE(decode_survivor(bad).ok()) << at;
    }
    for (size_t size = 0; size < used; size += 7) {
      EXPECT_FALSE(decode_survivor(ByteSpan(bytes).first(size)).ok());
    }
  }
}

TEST(Survivor, of_one_block_costs_no_more_than_its_record_did) {
  sim::SimRng rng(3);
  Survivor survivor = survivor_of(rng, 8192, 4096);
  EXPECT_EQ(survivor.stored_size(), 4352u);
  EXPECT_EQ(align_record(kRecordHeaderSize + UnitLayout(8192, 4096).stored_size()), 4352u);
}

TEST(Victims, are_the_emptiest_and_fill_the_outputs) {
  std::vector<FileUse> files;
  for (uint64_t i = 0; i < 40; ++i) {
    files.push_back(
        {.file = i, .bytes = 100, .live_bytes = 20 + i * 2, .hidden_at = 1000 - i * 20});
  }
  CollectionLimits limits{.target_bytes = 3900, .output_bytes = 50, .order = VictimOrder::kGreedy};
  EXPECT_TRUE(choose_victims(files, 3900, 2000, limits).empty());
  const std::vector<size_t> few = choose_victims(files, 3950, 2000, limits);
  EXPECT_EQ(few, (std::vector<size_t>{0}));
  limits.target_bytes = 0;
  const std::vector<size_t> batch = choose_victims(files, 4000, 2000, limits);
  uint64_t survive = 0;
  for (size_t i : batch) survive += files[i].live_bytes;
  EXPECT_LE(survive, 400u);
  EXPECT_GT(survive, 330u);
  // A fuller file that has stopped emptying long ago goes before one that is still at it.
  limits.target_bytes = 3950;
  limits.order = VictimOrder::kDecliningCost;
  files[0].hidden_at = 1999;
  EXPECT_NE(choose_victims(files, 4000, 2000, limits).front(), 0u);
  for (FileUse& file : files) file.live_bytes = 99;
  EXPECT_TRUE(choose_victims(files, 4000, 2000, limits).empty()) << "nothing is worth it";
}

TEST(Batch, gives_files_away_only_after_the_switch_and_when_no_older_lease_reads_them) {
  Leases leases;
  const uint64_t reader = leases.take(8);
  Batch batch({1, 2, 3}, 7, 9);
  batch.written();
  batch.damaged(2);
  batch.synced();
  batch.read_back();
  batch.switched(12);
  EXPECT_TRUE(batch.removable(leases).empty()) << "a file is not recycled under a lease";
  const uint64_t younger = leases.take(12);
  leases.end(reader);
  EXPECT_EQ(batch.removable(leases), (std::vector<uint64_t>{1, 3})) << "the damaged one stays";
  EXPECT_EQ(batch.damaged_files(), (std::set<uint64_t>{2}));
  leases.end(younger);
}

TEST(BatchDeathTest, takes_no_step_out_of_order) {
  EXPECT_DEATH(Batch({1}, 10, 9), "assertion failed") << "the withdrawal isn't durable";
  EXPECT_DEATH(
      {
        Batch batch({1}, 1, 9);
        batch.switched(10);
      },
      "assertion failed");
  EXPECT_DEATH(
      {
        Batch batch({1}, 1, 9);
        batch.written();
        batch.read_back();
      },
      "assertion failed")
      << "survivors that aren't synced";
  EXPECT_DEATH(
      {
        Batch batch({1}, 1, 9);
        static_cast<void>(batch.removable({}));
      },
      "assertion failed")
      << "before their survivors count";
}

}  // namespace
}  // namespace hf::journal
