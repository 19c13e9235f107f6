// A disk overwritten at random, for measurements: larger than a model could judge.
#pragma once

#include "journal/chain/test_line.h"

namespace hf::journal {

// Random 4 KiB overwrites of a disk, in segments of 16 Ki records, with all maps of the schedule.
struct Overwritten {
  Overwritten(uint64_t blocks, uint64_t segments, size_t cache_bytes) : files(cache_bytes) {
    sim::SimRng rng(1);
    uint64_t sequence = 0;
    for (uint64_t ordinal = 1; ordinal <= segments; ++ordinal) {
      Present table;
      for (uint64_t i = 0; i < kRecords; ++i) {
        Extent record{.volume = VolumeId(1),
                      .offset = rng.below(blocks) * kBlockSize,
                      .length = kBlockSize,
                      .sequence = Sequence(++sequence),
                      .segment = ordinal,
                      .place = i * 4352};
        rng.fill(std::as_writable_bytes(std::span(record.leaf)));
        table.insert(record);
      }
      for (const SegmentRun& run : runs_due(ordinal)) {
        if (run.length() == 1) {
          maps[run] = files.write<ExtentCodec>(table.sorted());
          continue;
        }
        MergedSource::Sources sources;
        for (const SegmentRun& part : parts_of(run)) {
          sources.push_back(std::make_unique<MapSource>(*maps.at(part), files.cache));
        }
        MergedSource merged(std::move(sources));
        BytesSink sink;
        TableWriter<ExtentCodec> writer(sink);
        while (*files.run(merged) == Step::kReady) {
          writer.add(merged.current());
          merged.next();
        }
        const TableFooter footer = writer.finish();
        maps[run] = files.add(std::move(sink.bytes), footer);
      }
    }
    chain = chain_of(0, segments);
  }
  Chain chain_of(uint64_t from, uint64_t to) const {
    std::set<SegmentRun> there;
    for (const auto& [run, map] : maps) there.insert(run);
    const std::vector<SegmentRun> runs = *cover(from, to, there);
    Chain made;
    for (const SegmentRun& run : runs) made.maps.push_back(maps.at(run));
    return made;
  }
  static constexpr uint64_t kRecords = 16'384;
  TableFiles files;
  std::map<SegmentRun, const Table*> maps;
  Chain chain;
};

}  // namespace hf::journal
