// EngineHome: a journal of real records, by the production log, sealer and recovery, over the
// engine in place of index and base files: what Journal has to do to use it. And beside it the
// plain model.
#pragma once

#include "journal/engine/engine.h"
#include "journal/seal/sealer.h"
#include "journal/test_world.h"

namespace hf::journal {

inline constexpr uint64_t kCell = 512;
inline constexpr uint64_t kCells = 512;  // of each volume
inline constexpr uint32_t kVolumes = 2;

// Which write a cell shows: its sequence; 0: zeroes.
using Disk = std::vector<uint64_t>;

inline void fill_cell(uint64_t write, uint64_t cell, MutableByteSpan to) {
  for (size_t i = 0; i < to.size(); i += 16) {
    store_le(to.data() + i, write);
    store_le(to.data() + i + 8, write == 0 ? uint64_t{0} : cell + i);
  }
}

class EngineHome final : private RecoveryVisitor {
 public:
  EngineHome(TestSite& site_in, EngineOptions options_in)
      : site(site_in), sealer_(site_in.keys()), options(std::move(options_in)) {
    options.vm = site.vm;
    options.key_version = sealer_.keys().version();
    options.public_key = sealer_.keys().public_key();
    options.key = &sealer_.keys().signing();
    engine = std::make_unique<Engine>(site.storage, site.clock, options);
  }

  Status open() {
    TRY(look());
    TRY(log->make_inherited_durable());
    return begin_incarnation();
  }
  // Opened as far as nothing is written.
  Status look() {
    Recovered recovered;
    const Result<Manifest> found = load_manifest(site.storage);
    if (found.ok()) {
      recovered =
          TRY(recover(site.storage, site.vm, sealer_.keys().public_key(), site.log_options, this));
    } else {
      if (found.error().code != ErrorCode::kNotFound) return found.error();
      TRY(check_nothing_orphaned(site.storage));
      recovered.manifest = {.vm = site.vm, .public_key = sealer_.keys().public_key()};
      recovered.line = Line(site.vm, {}, {});
    }
    inherited = recovered.line.last();
    log = std::make_unique<RecordLog>(site.storage, site.clock, site.log_options,
                                      std::move(recovered));
    engine->start(*log);
    return {};
  }

  Result<Sequence> write(VolumeId volume, uint64_t cell, uint64_t cells, bool zero) {
    RecordHeader header = header_of(zero ? RecordKind::kZero : RecordKind::kWrite);
    header.volume = volume;
    header.offset = cell * kCell;
    header.length = cells * kCell;
    const size_t stored =
        align_record(kRecordHeaderSize +
                     sealed_size(header.offset, zero ? 0 : static_cast<size_t>(header.length)));
    if (log->must_close_before(stored)) TRY(close_segment());
    const MutableByteSpan record = TRY(log->reserve(header.kind, stored));
    const RecordHeader place = header_of(header.kind);
    header.sequence = place.sequence;
    header.prev_chain = place.prev_chain;
    header.time = place.time;
    Bytes data(zero ? 0 : header.length);
    for (uint64_t i = 0; !zero && i < cells; ++i) {
      fill_cell(header.sequence.value, cell + i, MutableByteSpan(data).subspan(i * kCell, kCell));
    }
    sealer_.seal_record(header, data, record);
    commit(header, record);
    return header.sequence;
  }
  Status close_segment() {
    RecordHeader header = header_of(RecordKind::kClose);
    header.payload_length = kClosePayloadSize;
    const CloseBody body = log->close_body();
    const MutableByteSpan record = TRY(log->reserve(header.kind, header.stored_size()));
    sealer_.sign_close(header, body, record);
    log->commit(header, record);
    return {};
  }

  void tick() {
    log->tick();
    engine->tick();
  }
  Micros next_deadline() const { return std::min(log->next_deadline(), engine->next_deadline()); }
  bool idle() const { return log->idle() && engine->idle(); }

  // What a view shows, read, proven and opened.
  Task<Result<Bytes>> read(ViewPtr view, Fronts fronts, VolumeId volume) {
    Bytes disk(kCells * kCell);
    const auto found = CO_TRY(co_await engine->reads().look_up(
        view, std::move(fronts), volume, Range{.offset = 0, .length = disk.size()}));
    for (const Extent& extent : found) {
      if (extent.zero) continue;
      const StoredUnits units = CO_TRY(co_await engine->reads().fetch(view, extent));
      CO_TRY(open_units(units, extent, disk));
    }
    co_return disk;
  }
  // Compares every cell of every volume.
  Status check(const ViewPtr& view, const Fronts& fronts, const Disk& expected) {
    for (uint32_t volume = 0; volume < kVolumes; ++volume) {
      auto task = read(view, fronts, VolumeId(volume));
      task.start();
      if (!site.run(*this, [&] { return task.done() || !site.storage.alive(); }, 60'000'000)) {
        return corrupt("a read never ends");
      }
      if (!task.done()) return {};  // the world ended meanwhile
      const Bytes disk = TRY(task.take());
      Bytes cell(kCell);
      for (uint64_t i = 0; i < kCells; ++i) {
        const uint64_t write = expected[volume * kCells + i];
        fill_cell(write, i, cell);
        if (!std::ranges::equal(cell, ByteSpan(disk).subspan(i * kCell, kCell))) {
          const uint64_t shown = load_le<uint64_t>(disk.data() + i * kCell);
          return corrupt("volume " + std::to_string(volume) + ", cell " + std::to_string(i) +
                         " shows write " + std::to_string(shown) + " instead of " +
                         std::to_string(write));
        }
      }
    }
    return {};
  }

  TestSite& site;

 private:
  Sealer sealer_;

 public:
  EngineOptions options;
  std::unique_ptr<RecordLog> log;
  std::unique_ptr<Engine> engine;
  Sequence inherited;         // the last record that recovery found
  uint64_t records_read = 0;  // by it

 private:
  RecordHeader header_of(RecordKind kind) const {
    const Line& line = log->line();
    RecordHeader header;
    header.kind = kind;
    header.sequence = line.last().next();
    header.vm = line.vm();
    header.incarnation = line.end().position.incarnation;
    header.key_version = sealer_.keys().version();
    header.time = std::max(line.time(), site.clock.wall_time());
    header.prev_chain = line.end().chain;
    return header;
  }
  void commit(const RecordHeader& header, ByteSpan record) {
    const uint64_t position = log->open_end() - kSegmentHeaderSize;
    const Digest digest = header_digest(record.first<kRecordHeaderSize>());
    log->commit(header, record);
    engine->committed(header, digest, position);
  }
  Status begin_incarnation() {
    const bool inherits_open = log->open_has_records();
    IncarnationBody body{.salt = {},
                         .epoch = site.epoch,
                         .site = site.site,
                         .parent = log->line().end().position,
                         .parent_chain = log->line().end().chain};
    site.rng.fill(body.salt.bytes);
    RecordHeader header = header_of(RecordKind::kIncarnation);
    header.incarnation = body.salt;
    header.payload_length = kIncarnationPayloadSize;
    const MutableByteSpan record = TRY(log->reserve(header.kind, header.stored_size()));
    sealer_.seal_incarnation(header, body, record);
    log->commit(header, record);
    if (inherits_open) TRY(close_segment());
    return log->finish_opening();
  }
  Status open_units(const StoredUnits& units, const Extent& extent, MutableByteSpan disk) {
    const LineageEntry* writer = incarnation_at(log->line().lineage(), extent.sequence);
    HF_ASSERT(writer != nullptr);
    const UnitLayout layout(units.record.offset, units.record.length);
    for (size_t i = units.range.first; i < units.range.first + units.range.count; ++i) {
      const UnitPart part = layout.unit(i);
      Bytes plain(part.length);
      TRY(sealer_.open_unit(
          ByteSpan(units.header).first(kRecordAadSize), writer->body.salt, extent.sequence, i,
          ByteSpan(units.bytes)
              .subspan(part.stored_at - units.range.stored_at, part.stored_length()),
          plain));
      const uint64_t from = std::max(part.offset, extent.offset);
      const uint64_t end = std::min(part.offset + part.length, extent.end());
      std::ranges::copy(ByteSpan(plain).subspan(from - part.offset, end - from),
                        disk.begin() + static_cast<ptrdiff_t>(from));
    }
    return {};
  }

  Result<std::optional<size_t>> on_manifest(const Manifest& manifest) override {
    return std::optional<size_t>(TRY(engine->load(manifest)));
  }
  Status on_base(const BaseEntry&, FileId) override { return corrupt("a base file"); }
  Status on_extent(const Segment&, const ExtentEntry&) override { return {}; }
  void on_record(uint64_t ordinal, const RecordHeader& header, const Digest& digest,
                 uint64_t position) override {
    ++records_read;
    engine->on_record(ordinal, header, digest, position);
  }
  Status on_unlisted(const ScannedRecord& record) override {
    return sealer_.check_record(record.header, record.raw_header, record.payload);
  }
};

}  // namespace hf::journal
