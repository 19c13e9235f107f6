// A line whose segments are collected again and again, without a key, while its points are read:
// each retained position shows its bytes, found by map, locator and survivor; each planted fault
// shows.
#include <gtest/gtest.h>

#include "journal/chain/test_line.h"
#include "journal/collection/collect.h"
#include "journal/collection/death_finder.h"
#include "journal/collection/deaths.h"
#include "journal/table/find.h"

namespace hf::journal {
namespace {

struct CollectFaults {
  bool shown_unit_dropped = false;
  bool locator_of_an_older_record = false;
  bool rotten_unit_collected = false;
};

LeafPrefix leaf_of(ByteSpan header) {
  LeafPrefix leaf;
  const Digest digest = crypto::sha256(header);
  std::copy_n(digest.bytes.begin(), leaf.size(), leaf.begin());
  return leaf;
}

// Segments and collected files in memory, over the records of a TestLine.
class CollectedLine final : private HiddenVisitor {
 public:
  CollectedLine(uint64_t seed, const CollectFaults& faults)
      : faults_(faults),
        line(seed, {.cells = 160, .cell = 1024, .records_per_segment = 10, .length_max = 24}) {}

  void grow(uint64_t segments) {
    for (const uint64_t end = line.closed + segments; line.closed < end;) {
      line.write_record();
      seal(line.records.back());
      if (line.in_segment == 0) find_deaths();
    }
  }

  // One batch: some closed segments and collected files become new files.
  Status collect(const Retained& retained) {
    std::vector<Survivor> survivors;
    std::vector<uint64_t> gone;
    for (auto segment = young_.begin(); segment != young_.end();) {
      if (segment->first > found_until_ || !line.rng.chance(1, 2)) {
        ++segment;
        continue;
      }
      for (const auto& [place, record] : segment->second) {
        const Extent& extent = record_of(segment->first, place);
        const LiveUnits live = live_of(extent, retained);
        if (std::ranges::find(live, true) == live.end()) continue;
        survivors.push_back(TRY(take(survive(record, segment->first, place, live))));
      }
      segment = young_.erase(segment);
    }
    for (auto file = files_.begin(); file != files_.end();) {
      if (!line.rng.chance(1, 3)) {
        ++file;
        continue;
      }
      for (ByteSpan rest = file->second; !rest.empty();) {
        const Survivor old = TRY(decode_survivor(rest));
        rest = rest.subspan(old.stored_size());
        LiveUnits live = live_of(record_of(old.segment, old.place), retained);
        for (size_t i = 0; i < live.size(); ++i) live[i] = live[i] && old.live[i];
        if (std::ranges::find(live, true) == live.end()) continue;
        survivors.push_back(TRY(take(survive_again(old, live))));
      }
      file = files_.erase(file);
    }
    if (survivors.empty()) return {};
    Collected collected = lay_out(std::move(survivors), next_file_, 16u << 10);
    next_file_ += collected.files.size();
    for (CollectedFile& file : collected.files) files_[file.number] = std::move(file.bytes);
    if (faults_.locator_of_an_older_record && collected.locations.size() > 1) {
      std::swap(collected.locations.front().file, collected.locations.back().file);
      std::swap(collected.locations.front().offset, collected.locations.back().offset);
    }
    locators_.insert(locators_.begin(), line.files.write<LocationCodec>(collected.locations));
    return {};
  }

  // All that a closed position shows, read and checked as a reader does it.
  Status check(uint64_t ordinal) {
    Chain chain;
    const std::vector<SegmentRun> runs = *cover(0, ordinal, line.there());
    for (const SegmentRun& run : runs) chain.maps.push_back(line.maps.at(run));
    const size_t position = line.ends[ordinal];
    for (uint32_t volume = 0; volume < line.options.volumes; ++volume) {
      Lookup lookup(chain, line.files.cache, VolumeId(volume),
                    {.length = line.options.cells * line.options.cell});
      TRY(line.files.run(lookup));
      const std::vector<Extent> found = lookup.found();
      for (const Extent& extent : found) {
        if (extent.sequence.value != line.owner(position, VolumeId(volume), extent.offset)) {
          return corrupt("another record's bytes");
        }
        if (!extent.zero) TRY(read(extent));
      }
    }
    return {};
  }
  uint64_t bytes_held() const {
    uint64_t sum = 0;
    for (const auto& [number, bytes] : files_) sum += bytes.size();
    for (const auto& [segment, records] : young_) {
      for (const auto& [place, bytes] : records) sum += bytes.size();
    }
    return sum;
  }

 private:
  void on_hidden(const Extent& piece, Sequence by) override {
    deaths_[{piece.segment, piece.place}].push_back({.segment = piece.segment,
                                                     .place = piece.place,
                                                     .skip = piece.skip,
                                                     .length = piece.length,
                                                     .by = by});
  }
  // The sealed record of an extent, whose leaf then is the header's.
  void seal(Extent& extent) {
    if (extent.zero) return;
    const UnitLayout layout(extent.offset, extent.length);
    Bytes record(align_record(kRecordHeaderSize + layout.stored_size()));
    const MutableByteSpan payload =
        MutableByteSpan(record).subspan(kRecordHeaderSize, layout.stored_size());
    line.rng.fill(payload);
    RecordHeader header;
    header.kind = RecordKind::kWrite;
    header.sequence = extent.sequence;
    header.volume = extent.volume;
    header.offset = extent.offset;
    header.length = extent.length;
    header.payload_length = static_cast<uint32_t>(sealed_size(extent.offset, extent.length));
    header.payload_digest = payload_root(layout, payload);
    encode_header(header, RecordHeaderBytes(record.data(), kRecordHeaderSize));
    leaves_[extent.sequence.value] = leaf_of(ByteSpan(record).first(kRecordHeaderSize));
    payloads_[extent.sequence.value] = Bytes(payload.begin(), payload.end());
    young_[extent.segment][extent.place] = std::move(record);
  }
  void find_deaths() {
    const uint64_t b = line.closed;
    Present table;
    for (size_t i = line.ends[b - 1]; i < line.ends[b]; ++i) table.insert(line.records[i], this);
    if (b % kMapFanIn != 0) return;
    MergedSource newer(line.sources_of(parts_of({.a = b - 8, .b = b})), {.hidden = this});
    Chain behind;
    const std::vector<SegmentRun> runs = *cover(0, b - 8, line.there());
    for (const SegmentRun& run : runs) behind.maps.push_back(line.maps.at(run));
    DeathFinder finder(newer, behind, line.files.cache, *this);
    HF_ASSERT(*line.files.run(finder) == Step::kEnd);
    found_until_ = b;
  }
  const Extent& record_of(uint64_t segment, uint64_t place) const {
    return line.records.at(line.ends[segment - 1] + place / 64);
  }
  LiveUnits live_of(const Extent& extent, const Retained& retained) {
    LiveUnits live = live_units(UnitLayout(extent.offset, extent.length), extent.sequence,
                                deaths_[{extent.segment, extent.place}], retained);
    if (faults_.shown_unit_dropped && live.size() > 1) live.front() = false;
    return live;
  }
  Result<Survivor> take(Result<Survivor> survivor) {
    if (survivor.ok() && faults_.rotten_unit_collected) {
      survivor->payload.units.back() ^= std::byte{1};
    }
    return survivor;
  }
  // By locator or in its young segment; the header by the leaf, the units by the header.
  Status read(const Extent& extent) {
    Bytes header;
    LiveUnits live;
    Bytes units;
    const UnitLayout* layout = nullptr;
    std::optional<UnitLayout> made;
    if (const auto young = young_.find(extent.segment); young != young_.end()) {
      const Bytes& record = young->second.at(extent.place);
      header.assign(record.begin(), record.begin() + kRecordHeaderSize);
      const RecordHeader read_header = TRY(decode_header(header));
      made.emplace(read_header.offset, read_header.length);
      live.assign(made->count(), true);
      units.assign(
          record.begin() + kRecordHeaderSize,
          record.begin() + static_cast<ptrdiff_t>(kRecordHeaderSize + made->stored_size()));
    } else {
      Finder<LocationCodec> finder(locators_, line.files.cache,
                                   {.major = extent.segment, .minor = extent.place});
      if (TRY(line.files.run(finder)) == Step::kEnd) return corrupt("a record is nowhere");
      const Location& at = finder.found();
      const auto file = files_.find(at.file);
      if (file == files_.end()) return corrupt("a file is gone");
      const Survivor survivor = TRY(decode_survivor(ByteSpan(file->second).subspan(at.offset)));
      header.assign(survivor.header.begin(), survivor.header.end());
      const RecordHeader read_header = TRY(decode_header(header));
      made.emplace(read_header.offset, read_header.length);
      live = survivor.live;
      units = survivor.payload.units;
    }
    layout = &*made;
    if (leaf_of(header) != leaves_.at(extent.sequence.value)) {
      return corrupt("another record than the map names");
    }
    const UnitRange range = layout->covering(extent.skip, extent.length);
    size_t at = 0;
    for (size_t i = 0; i < range.first + range.count; ++i) {
      const UnitPart part = layout->unit(i);
      if (i >= range.first) {
        if (!live[i]) return corrupt("a unit that a point shows is gone");
        const ByteSpan stored = ByteSpan(units).subspan(at, part.stored_length());
        const ByteSpan sealed = ByteSpan(payloads_.at(extent.sequence.value))
                                    .subspan(part.stored_at, part.stored_length());
        if (!std::ranges::equal(stored, sealed)) return corrupt("other bytes than were written");
      }
      if (live[i]) at += part.stored_length();
    }
    return {};
  }

  const CollectFaults faults_;

 public:
  TestLine line;

 private:
  std::map<uint64_t, std::map<uint64_t, Bytes>> young_;  // segment, place
  std::map<uint64_t, Bytes> files_;
  std::vector<const Table*> locators_;
  std::map<std::pair<uint64_t, uint64_t>, std::vector<Death>> deaths_;
  std::map<uint64_t, LeafPrefix> leaves_;
  std::map<uint64_t, Bytes> payloads_;
  uint64_t next_file_ = 1;
  uint64_t found_until_ = 0;
};

// Grows, collects and withdraws by turns; what the retained closes show is checked each time.
Status live_and_collect(uint64_t seed, const CollectFaults& faults, uint64_t* held = nullptr) {
  CollectedLine disk(seed, faults);
  std::set<uint64_t> points;  // ordinals of closes
  for (int turn = 0; turn < 12; ++turn) {
    disk.grow(8);
    if (turn % 3 == 0) points.insert(disk.line.closed - disk.line.rng.below(8));
    if (turn % 4 == 3 && !points.empty()) points.erase(points.begin());
    Retained retained;
    for (uint64_t point : points) retained.emplace_back(disk.line.ends[point]);
    retained.emplace_back(disk.line.records.size());
    TRY(disk.collect(retained));
    for (uint64_t point : points) TRY(disk.check(point));
    TRY(disk.check(disk.line.closed));
  }
  if (held != nullptr) *held = disk.bytes_held();
  return {};
}

TEST(Collection, keeps_what_points_show_through_many_rounds_without_the_key) {
  for (uint64_t seed = 0; seed < 15; ++seed) {
    uint64_t held = 0;
    const Status lived = live_and_collect(seed, {}, &held);
    ASSERT_TRUE(lived.ok()) << "seed " << seed << ": " << lived.error().describe();
    // 960 records of 12 KiB on average were written.
    EXPECT_LT(held, 3u << 20) << "and what nothing shows went away";
  }
}

TEST(CollectionFaults, each_is_found) {
  const auto found = [](const CollectFaults& faults) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
      if (!live_and_collect(seed, faults).ok()) return true;
    }
    return false;
  };
  EXPECT_FALSE(found({}));
  EXPECT_TRUE(found({.shown_unit_dropped = true}));
  EXPECT_TRUE(found({.locator_of_an_older_record = true}));
  EXPECT_TRUE(found({.rotten_unit_collected = true}));
}

}  // namespace
}  // namespace hf::journal
