// Engine: maps of what closed, and what they hide of older records.
#include <algorithm>

#include "journal/chain/merge.h"
#include "journal/collection/death_finder.h"
#include "journal/engine/engine.h"
#include "journal/format/wire.h"

namespace hf::journal {

namespace {

// Zeroed pieces have no units: nothing of them lives or dies.
class DeathRecorder final : public HiddenVisitor {
 public:
  explicit DeathRecorder(std::vector<Death>& deaths) : deaths_(deaths) {}
  void on_hidden(const Extent& piece, Sequence by) override {
    if (piece.zero) return;
    deaths_.push_back({.segment = piece.segment,
                       .place = piece.place,
                       .skip = piece.skip,
                       .length = piece.length,
                       .by = by});
  }

 private:
  std::vector<Death>& deaths_;
};

}  // namespace

Task<Status> Engine::make_maps(uint64_t ordinal) {
  auto& table = tables_[ordinal];
  if (!table) table = std::make_shared<Present>();  // no record of it has an extent
  const std::vector<Extent> extents = table->sorted();
  SpanSource source(extents);
  std::vector<TablePtr> made;
  made.push_back(CO_TRY(co_await write_map({.a = ordinal - 1, .b = ordinal}, &source)));
  // Merged maps are made of what is not listed yet, too; a job that fails leaves maps_ as it was.
  maps_.emplace(made.back()->run(), made.back());
  TablePtr deaths;
  Status done = co_await merge_maps(ordinal, &made, &deaths);
  if (!done.ok()) {
    for (const TablePtr& map : made) maps_.erase(map->run());
    co_return done;
  }
  std::vector<KeptFile>& kept = log_->manifest().kept;
  const uint64_t mapped = std::exchange(mapped_, ordinal);
  const std::set<SegmentRun> needed = needed_runs();
  mapped_ = mapped;
  std::vector<TablePtr> gone;
  for (const auto& [run, map] : maps_) {
    if (!needed.contains(run)) gone.push_back(map);
  }
  for (const TablePtr& map : made) {
    if (needed.contains(map->run())) kept.push_back(map->entry);
  }
  for (const TablePtr& map : gone) {
    std::erase_if(kept, [&](const KeptFile& each) { return each.number == map->entry.number; });
  }
  if (deaths) kept.push_back(deaths->entry);
  CO_TRY(co_await store_lists({}));
  mapped_ = ordinal;
  tables_.erase(ordinal);
  for (const TablePtr& map : gone) {
    maps_.erase(map->run());
    let_go(map->file, false);
  }
  data_.push_back({.file = segment_file(ordinal), .young = true});
  if (deaths) {
    deaths_.push_back(deaths);
    found_until_ = ordinal;
    collected_in_vain_ = false;
  }
  rebuild_view();
  if (deaths && accounted_) CO_TRY(co_await account(deaths));
  co_return Status();
}

Task<Status> Engine::merge_maps(uint64_t ordinal, std::vector<TablePtr>* made, TablePtr* deaths) {
  for (const SegmentRun& run : runs_due(ordinal)) {
    if (run.length() == 1) continue;
    std::vector<Death> hidden;
    const bool shortest = run.length() == kMapFanIn;
    made->push_back(CO_TRY(co_await write_merged(run, shortest ? &hidden : nullptr)));
    maps_.emplace(run, made->back());
    if (!shortest) continue;
    CO_TRY(co_await find_deaths_within(run, &hidden));
    CO_TRY(co_await find_deaths_behind(made->back(), &hidden));
    *deaths = CO_TRY(co_await write_deaths(run, std::move(hidden)));
  }
  co_return Status();
}

// Those that the line's end and the points are read by. Later merges are made of these, too.
std::set<SegmentRun> Engine::needed_runs() const {
  std::set<SegmentRun> there;
  for (const auto& [run, map] : maps_) there.insert(run);
  std::set<SegmentRun> needed;
  std::vector<uint64_t> ends = points();
  ends.push_back(mapped_);
  for (const uint64_t b : ends) {
    if (b == 0) continue;
    const auto runs = cover(0, b, there);
    HF_ASSERT(runs.has_value());
    needed.insert(runs->begin(), runs->end());
  }
  return needed;
}

Task<Result<TablePtr>> Engine::write_map(SegmentRun run, ExtentSource* source) {
  KeptTableWriter<ExtentCodec> writer(storage_, unlisted_, KeptKind::kMap, take_number(), run);
  CO_TRY(co_await writer.create());
  // Pages that the source asks for are those of maps that view_ may not have yet.
  View pages;
  for (const auto& [each, map] : maps_) pages.tables.emplace(map->table.number, map->file);
  while (CO_TRY(co_await reads_.run(source, &pages)) == Step::kReady) {
    writer.add(source->current());
    source->next();
    if (writer.wants_flush()) CO_TRY(co_await writer.flush());
  }
  const MapStatement statement{.vm = options_.vm,
                               .key_version = options_.key_version,
                               .run = run,
                               .begin = close_at(run.a),
                               .end = close_at(run.b)};
  TablePtr map = CO_TRY(co_await writer.finish(statement, options_.key));
  counted_.maps_written += map->entry.length;
  co_return map;
}

Task<Result<TablePtr>> Engine::write_merged(SegmentRun run, std::vector<Death>* hidden) {
  MergedSource::Sources sources;
  for (const SegmentRun& part : parts_of(run)) {
    sources.push_back(std::make_unique<MapSource>(maps_.at(part)->table, reads_.cache()));
  }
  std::vector<Death> unused;
  DeathRecorder recorder(hidden == nullptr ? unused : *hidden);
  MergedSource merged(std::move(sources), {.hidden = hidden == nullptr ? nullptr : &recorder,
                                           .oldest_wins = options_.faults.merged_oldest_first});
  co_return co_await write_map(run, &merged);
}

Task<Result<std::vector<ExtentEntry>>> Engine::read_extents(uint64_t ordinal) {
  const ClosedSegment closed = *log_->closed()[ordinal - 1].closed;
  const FilePtr file = segment_file(ordinal);
  Bytes raw(Segment::kCloseStoredSize +
            static_cast<size_t>(closed.table_entries) * kExtentEntrySize);
  CO_TRY(co_await reads_.read(file, closed.close_offset, raw));
  const ByteSpan payload = ByteSpan(raw).subspan(kRecordHeaderSize, kClosePayloadSize);
  const ByteSpan table = ByteSpan(raw).subspan(Segment::kCloseStoredSize);
  const ByteSpan header = ByteSpan(raw).first(kRecordHeaderSize);
  if (close_digest(header.first<kRecordHeaderSize>(), payload) != closed.close_digest) {
    co_return corrupt("close: differs from the one in MANIFEST").context(file->name);
  }
  const CloseBody body = CO_TRY_CONTEXT(decode_close(payload), file->name);
  if (body.table_entries != closed.table_entries || crypto::sha256(table) != body.table_digest) {
    co_return corrupt("extent table differs from its close").context(file->name);
  }
  std::vector<ExtentEntry> entries;
  for (size_t at = 0; at < table.size(); at += kExtentEntrySize) {
    entries.push_back(
        CO_TRY_CONTEXT(decode_extent(table.subspan(at, kExtentEntrySize)), file->name));
  }
  co_return entries;
}

// What records hide of others of the same segment: their own maps don't know those any more.
Task<Status> Engine::find_deaths_within(SegmentRun run, std::vector<Death>* deaths) {
  DeathRecorder recorder(*deaths);
  for (uint64_t ordinal = run.a + 1; ordinal <= run.b; ++ordinal) {
    Present table;
    for (const ExtentEntry& entry : CO_TRY(co_await read_extents(ordinal))) {
      table.insert({.volume = entry.volume,
                    .zero = entry.kind == RecordKind::kZero,
                    .offset = entry.offset,
                    .length = entry.length,
                    .sequence = entry.sequence,
                    .segment = ordinal,
                    .place = entry.position},
                   &recorder);
    }
  }
  co_return Status();
}

Task<Status> Engine::find_deaths_behind(TablePtr map, std::vector<Death>* deaths) {
  Chain behind;
  View pages;
  for (const auto& [run, each] : maps_) pages.tables.emplace(each->table.number, each->file);
  if (map->run().a > 0) {
    std::set<SegmentRun> there;
    for (const auto& [run, each] : maps_) there.insert(run);
    const auto runs = cover(0, map->run().a, there);
    HF_ASSERT(runs.has_value());
    for (const SegmentRun& run : *runs) behind.maps.push_back(&maps_.at(run)->table);
  }
  MapSource newer(map->table, reads_.cache());
  DeathRecorder recorder(*deaths);
  DeathFinder finder(newer, behind, reads_.cache(), recorder);
  CO_TRY(co_await reads_.run(&finder, &pages));
  co_return Status();
}

Task<Result<TablePtr>> Engine::write_deaths(SegmentRun run, std::vector<Death> deaths) {
  std::ranges::sort(deaths, {}, &Death::key);
  KeptTableWriter<DeathCodec> writer(storage_, unlisted_, KeptKind::kDeaths, take_number(), run);
  CO_TRY(co_await writer.create());
  for (const Death& death : deaths) {
    writer.add(death);
    if (writer.wants_flush()) CO_TRY(co_await writer.flush());
  }
  TablePtr made = CO_TRY(co_await writer.finish({}, nullptr));
  counted_.others_written += made->entry.length;
  co_return made;
}

// About how much of each file is dead: what chooses victims, no more. A death of what was dropped
// before an opening counts again.
Task<Status> Engine::account(TablePtr deaths) {
  const ViewPtr view = view_;
  TableCursor<DeathCodec> cursor(deaths->table, reads_.cache());
  cursor.seek({});
  while (CO_TRY(co_await reads_.run(&cursor, view.get())) == Step::kReady) {
    const Death death = cursor.entry();
    cursor.next();
    uint64_t file = death.segment;
    const bool young = view->young.contains(death.segment);
    if (!young) {
      const auto at = CO_TRY(co_await reads_.locate(view.get(), death.segment, death.place));
      if (!at) continue;
      file = at->file;
    }
    const auto data = std::ranges::find_if(
        data_, [&](const DataFile& each) { return each.young == young && each.file->id == file; });
    if (data == data_.end()) continue;
    data->dead_bytes = std::min(data->dead_bytes + death.length, data->file->length);
    data->hidden_at = std::max(data->hidden_at, death.by.value);
  }
  co_return Status();
}

Task<Status> Engine::account_all() {
  for (DataFile& data : data_) data.dead_bytes = 0;
  const std::vector<TablePtr> all = deaths_;
  for (const TablePtr& deaths : all) CO_TRY(co_await account(deaths));
  accounted_ = true;
  co_return Status();
}

}  // namespace hf::journal
