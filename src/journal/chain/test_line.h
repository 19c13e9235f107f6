// A line of a few volumes in memory: its records in segments, the maps that the schedule asks for,
// and beside them the plain model: which record owns each cell, at every position.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "journal/chain/lookup.h"
#include "journal/chain/merge.h"
#include "journal/chain/schedule.h"
#include "journal/table/writer.h"
#include "sim/world/rng.h"

namespace hf::journal {

struct BytesSink final : TableSink {
  void take(ByteSpan more) override { bytes.insert(bytes.end(), more.begin(), more.end()); }
  Bytes bytes;
};

// Tables as files in memory; runs what asks for pages.
class TableFiles {
 public:
  explicit TableFiles(size_t cache_bytes = 1u << 20) : cache(cache_bytes) {}

  template <typename Codec>
  const Table* write(const std::vector<typename Codec::Entry>& entries) {
    BytesSink sink;
    TableWriter<Codec> writer(sink);
    for (const auto& entry : entries) writer.add(entry);
    const TableFooter footer = writer.finish();
    return add(std::move(sink.bytes), footer);
  }
  const Table* add(Bytes bytes, const TableFooter& footer) {
    const Bytes end = encode_table_footer(footer);
    bytes.insert(bytes.end(), end.begin(), end.end());
    HF_ASSERT(bytes.size() == footer.length);
    const Result<TableFooter> found = decode_table_footer(ByteSpan(bytes).last(kTableFooterSize));
    HF_ASSERT(found.ok() && *found == footer);
    const uint64_t number = tables_.size();
    files.push_back(std::move(bytes));
    tables_.push_back(std::make_unique<Table>(Table{.number = number, .footer = footer}));
    return tables_.back().get();
  }
  template <typename Asker>
  Result<Step> run(Asker& asker) {
    while (true) {
      const Step step = TRY(asker.run());
      if (step != Step::kNeedsPage) return step;
      const PageRequest request = asker.request();
      const ByteSpan file = files.at(request.table);
      ++reads;
      bytes_read += request.page.length;
      if (request.page.length + request.page.offset > file.size()) return corrupt("beyond its end");
      const ByteSpan page = file.subspan(request.page.offset, request.page.length);
      TRY(cache.put(request, Bytes(page.begin(), page.end())));
    }
  }
  Result<std::vector<Extent>> all(ExtentSource& source) {
    std::vector<Extent> extents;
    while (TRY(run(source)) == Step::kReady) {
      extents.push_back(source.current());
      source.next();
    }
    return extents;
  }

  PageCache cache;
  std::vector<Bytes> files;
  uint64_t reads = 0;
  uint64_t bytes_read = 0;

 private:
  std::vector<std::unique_ptr<Table>> tables_;
};

struct TestLineOptions {
  uint64_t cells = 300;  // of each volume
  uint64_t cell = 1;     // bytes
  uint32_t volumes = 2;
  uint64_t records_per_segment = 12;
  uint64_t length_max = 40;  // cells of a record
  uint64_t zero_one_in = 5;
  size_t cache_bytes = 1u << 20;
  size_t checkpoint_every = 32;  // records; between two the model is replayed
};

class TestLine {
 public:
  using Owners = std::vector<uint64_t>;  // of each cell of all volumes: sequence, zeroed ones too

  TestLine(uint64_t seed, const TestLineOptions& options_in)
      : options(options_in), rng(seed), files(options_in.cache_bytes) {
    checkpoints_.emplace_back(options.cells * options.volumes);
    now_ = checkpoints_.front();
  }

  void write_record() {
    const uint64_t length = rng.between(1, options.length_max);
    Extent record{.volume = VolumeId(static_cast<uint32_t>(rng.below(options.volumes))),
                  .zero = rng.chance(1, options.zero_one_in),
                  .offset = rng.below(options.cells - length + 1) * options.cell,
                  .length = length * options.cell,
                  .sequence = Sequence(records.size() + 1),
                  .segment = closed + 1,
                  .place = in_segment * 64};
    rng.fill(std::as_writable_bytes(std::span(record.leaf)));
    records.push_back(record);
    apply(now_, record);
    if (records.size() % options.checkpoint_every == 0) checkpoints_.push_back(now_);
    if (++in_segment == options.records_per_segment) close();
  }
  void close() {
    in_segment = 0;
    ends.push_back(records.size());
    ++closed;
    for (const SegmentRun& run : runs_due(closed)) {
      if (run.length() == 1) {
        Present table;
        fill(table, ends[run.a], ends[run.b]);
        maps[run] = files.write<ExtentCodec>(table.sorted());
      } else {
        MergedSource merged(sources_of(parts_of(run)));
        maps[run] = files.write<ExtentCodec>(*files.all(merged));
      }
    }
  }
  // What the records after the `from`-th up to the `to`-th left behind.
  void fill(Present& table, size_t from, size_t to) const {
    for (size_t i = from; i < to; ++i) table.insert(records[i]);
  }
  std::set<SegmentRun> there() const {
    std::set<SegmentRun> all;
    for (const auto& [run, map] : maps) all.insert(run);
    return all;
  }
  MergedSource::Sources sources_of(const std::vector<SegmentRun>& runs) {
    MergedSource::Sources sources;
    for (const SegmentRun& run : runs) {
      sources.push_back(std::make_unique<MapSource>(*maps.at(run), files.cache));
    }
    return sources;
  }
  // The last segment that ends at or before the position.
  uint64_t ordinal_at(size_t position) const {
    return static_cast<uint64_t>(std::ranges::upper_bound(ends, position) - ends.begin()) - 1;
  }
  uint64_t owner(size_t position, VolumeId volume, uint64_t offset) const {
    return model(position)[volume.value * options.cells + offset / options.cell];
  }
  // Who owns each cell after so many records.
  const Owners& model(size_t position) const {
    if (!replayed_ || replayed_->first != position) {
      const size_t from = position / options.checkpoint_every;
      replayed_.emplace(position, checkpoints_.at(from));
      for (size_t i = from * options.checkpoint_every; i < position; ++i) {
        apply(replayed_->second, records[i]);
      }
    }
    return replayed_->second;
  }

  const TestLineOptions options;
  sim::SimRng rng;
  TableFiles files;
  std::vector<Extent> records;
  std::vector<size_t> ends{0};  // by ordinal: the position where the segment ends
  uint64_t closed = 0;
  uint64_t in_segment = 0;
  std::map<SegmentRun, const Table*> maps;

 private:
  void apply(Owners& owners, const Extent& record) const {
    const uint64_t at = record.volume.value * options.cells + record.offset / options.cell;
    std::fill_n(owners.begin() + static_cast<ptrdiff_t>(at), record.length / options.cell,
                record.sequence.value);
  }
  std::vector<Owners> checkpoints_;
  Owners now_;
  mutable std::optional<std::pair<size_t, Owners>> replayed_;
};

}  // namespace hf::journal
