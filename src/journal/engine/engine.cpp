// Engine: opening, jobs, points, and what goes.
#include "journal/engine/engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr uint64_t kRetryUs = 1'000'000;
}  // namespace

Engine::Engine(Storage& storage, Clock& clock, const EngineOptions& options)
    : storage_(storage),
      clock_(clock),
      options_(options),
      reads_(storage, options.cache_bytes, options_.faults) {}
Engine::~Engine() = default;

// ---- Opening ----

Result<FileId> Engine::open_kept(const KeptFile& entry) {
  const std::string name = kept_name(entry.kind, entry.number);
  Result<FileId> file = storage_.open(name, OpenMode::kRead);
  if (!file.ok()) {
    if (file.error().code == ErrorCode::kNotFound) return corrupt(name + ": the file is missing");
    return std::move(file).error().context(name);
  }
  if (TRY(storage_.size(*file)) != entry.length) return corrupt(name + ": its length differs");
  return *file;
}

Result<TablePtr> Engine::load_table(const KeptFile& entry) {
  auto table = std::make_shared<KeptTable>();
  const std::string name = kept_name(entry.kind, entry.number);
  const FileId file = TRY(open_kept(entry));
  if (entry.length < kTableFooterSize) return corrupt(name + ": its length differs");
  Bytes footer(kTableFooterSize);
  TRY_CONTEXT(storage_.read_now(file, entry.length - footer.size(), footer), name);
  if (crypto::sha256(footer) != entry.digest) return corrupt(name + ": its footer differs");
  table->table = {.number = entry.number, .footer = TRY_CONTEXT(decode_table_footer(footer), name)};
  if (static_cast<uint32_t>(table->table.footer.kind) != static_cast<uint32_t>(entry.kind) ||
      table->table.footer.length != entry.length) {
    return corrupt(name + ": it is another table");
  }
  table->file = std::make_shared<EngineFile>(
      EngineFile{.id = entry.number, .file = file, .name = name, .length = entry.length});
  table->entry = entry;
  return TablePtr(table);
}

namespace {
LineClose close_of(const Manifest& manifest, uint64_t ordinal) {
  if (ordinal == 0) return {};
  const ClosedSegment& closed = *manifest.segments[ordinal - 1].closed;
  return {.end = {.position = {.incarnation = closed.incarnation, .sequence = closed.last},
                  .chain = closed.chain},
          .close = closed.close_digest};
}
}  // namespace

// What binds MANIFEST's list of closes, whose segments are not read, to the key.
Status Engine::check_statement(const KeptTable& map, const Manifest& manifest) const {
  const MapStatement statement = TRY(check_map(map.table.footer, options_.public_key));
  const SegmentRun run = map.run();
  const uint64_t closed = static_cast<uint64_t>(std::ranges::count_if(
      manifest.segments, [](const SegmentEntry& entry) { return entry.closed.has_value(); }));
  if (statement.vm != options_.vm || statement.run != run || run.b > closed) {
    return corrupt("a map of something else");
  }
  if (options_.faults.map_of_another_line_taken) return {};
  if (statement.begin != close_of(manifest, run.a) || statement.end != close_of(manifest, run.b)) {
    return corrupt("a map of another line than MANIFEST's closes");
  }
  return {};
}

Status Engine::check_joined(const Manifest& manifest) const {
  std::set<SegmentRun> there;
  for (const auto& [run, map] : maps_) there.insert(run);
  const auto joined = [&](uint64_t b) { return b == 0 || cover(0, b, there).has_value(); };
  if (!joined(mapped_)) return corrupt("MANIFEST: the maps do not join");
  for (const uint64_t point : manifest.points) {
    if (point > mapped_ || !joined(point)) return corrupt("MANIFEST: a point without its maps");
  }
  if (found_until_ != mapped_ / kMapFanIn * kMapFanIn) {
    return corrupt("MANIFEST: a death list is missing");
  }
  for (size_t i = 0; i < manifest.segments.size(); ++i) {
    if (manifest.segments[i].collected && i >= found_until_) {
      return corrupt("MANIFEST: a segment was collected before its time");
    }
  }
  return {};
}

Result<size_t> Engine::load(const Manifest& manifest) {
  HF_ASSERT(maps_.empty());
  if (manifest.horizon != Horizon{}) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "the journal has base files"};
  }
  for (const KeptFile& entry : manifest.kept) {
    if (entry.kind == KeptKind::kUnits) {
      const FileId file = TRY(open_kept(entry));
      data_.push_back({.file = std::make_shared<EngineFile>(
                           EngineFile{.id = entry.number,
                                      .file = file,
                                      .name = kept_name(entry.kind, entry.number),
                                      .length = entry.length})});
      continue;
    }
    const TablePtr table = TRY(load_table(entry));
    if (entry.kind == KeptKind::kMap) {
      TRY_CONTEXT(check_statement(*table, manifest), table->file->name);
      if (!maps_.emplace(table->run(), table).second) return corrupt("MANIFEST: a map twice");
      mapped_ = std::max(mapped_, entry.b);
    } else if (entry.kind == KeptKind::kLocator) {
      locators_.insert(locators_.begin(), table);
    } else {
      if (entry.a != found_until_ || entry.b <= entry.a) {
        return corrupt("MANIFEST: the death lists do not join");
      }
      deaths_.push_back(table);
      found_until_ = entry.b;
    }
  }
  TRY(check_joined(manifest));
  accounted_ = deaths_.empty();
  return static_cast<size_t>(mapped_);
}

void Engine::on_record(uint64_t ordinal, const RecordHeader& header, const Digest& header_digest,
                       uint64_t position) {
  HF_ASSERT(ordinal > mapped_);
  auto& table = tables_[ordinal];
  if (!table) table = std::make_shared<Present>();
  if (header.has_extent()) table->insert(extent_of(header, header_digest, ordinal, position));
}

void Engine::start(RecordLog& log) {
  log_ = &log;
  for (size_t i = 0; i < mapped_; ++i) {
    if (log.closed()[i].collected) continue;
    data_.push_back({.file = segment_file(i + 1), .young = true});
  }
  rebuild_view();
}

void Engine::committed(const RecordHeader& header, const Digest& header_digest, uint64_t position) {
  on_record(log_->closed().size() + 1, header, header_digest, position);
}

// ---- Views ----

FilePtr Engine::segment_file(uint64_t ordinal) const {
  const bool open = ordinal > log_->closed().size();
  const Segment& segment = open ? *log_->open_segment() : log_->closed()[ordinal - 1];
  std::shared_ptr<EngineFile>& file = segment_files_[ordinal];
  if (!file) {
    file = std::make_shared<EngineFile>(
        EngineFile{.id = ordinal, .file = segment.file, .name = segment.name()});
  }
  file->length = open ? kSegmentBytesMax : segment.closed_size();
  return file;
}

std::shared_ptr<View> Engine::new_view() const {
  auto view = std::make_shared<View>();
  view->locators = locators_;
  view->deaths = deaths_;
  for (const DataFile& data : data_) {
    (data.young ? view->young : view->units).emplace(data.file->id, data.file);
  }
  // Those that have no map yet are looked up by their tables, and read all the same.
  for (uint64_t ordinal = mapped_ + 1; ordinal <= log_->closed().size() + 1; ++ordinal) {
    if (ordinal > log_->closed().size() && log_->open_segment() == nullptr) break;
    view->young.emplace(ordinal, segment_file(ordinal));
  }
  return view;
}

void Engine::rebuild_view() {
  std::shared_ptr<View> view = new_view();
  std::set<SegmentRun> there;
  for (const auto& [run, map] : maps_) there.insert(run);
  if (mapped_ > 0) {
    const std::vector<SegmentRun> runs = *cover(0, mapped_, there);
    for (const SegmentRun& run : runs) view->maps.push_back(maps_.at(run));
  }
  view->fill();
  view_ = std::move(view);
}

Result<ViewPtr> Engine::view_at(uint64_t ordinal) const {
  const bool is_point = std::ranges::find(points(), ordinal) != points().end();
  if (!is_point && (ordinal < found_until_ || ordinal > mapped_)) {
    return Error{.code = ErrorCode::kNotFound, .cause = "no point is there"};
  }
  std::set<SegmentRun> there;
  for (const auto& [run, map] : maps_) there.insert(run);
  std::shared_ptr<View> view = new_view();
  if (ordinal > 0) {
    const auto runs = cover(0, ordinal, there);
    if (!runs) return Error{.code = ErrorCode::kNotFound, .cause = "no maps lead there"};
    for (const SegmentRun& run : *runs) view->maps.push_back(maps_.at(run));
  }
  view->fill();
  return ViewPtr(std::move(view));
}

ViewPtr Engine::view() {
  // A segment that was begun since has to be readable by it.
  const uint64_t newest = log_->closed().size() + (log_->open_segment() == nullptr ? 0 : 1);
  if (newest > mapped_ && !view_->young.contains(newest)) rebuild_view();
  return view_;
}

Fronts Engine::fronts() const {
  Fronts newest_first;
  for (const auto& [ordinal, table] : tables_) newest_first.push_back(table);
  std::ranges::reverse(newest_first);
  return newest_first;
}

const std::vector<uint64_t>& Engine::points() const { return log_->manifest().points; }

LineClose Engine::close_at(uint64_t ordinal) const {
  if (ordinal == 0) return {};
  const ClosedSegment& closed = *log_->closed()[ordinal - 1].closed;
  return {.end = {.position = {.incarnation = closed.incarnation, .sequence = closed.last},
                  .chain = closed.chain},
          .close = closed.close_digest};
}

// ---- Jobs ----

bool Engine::map_is_due() const {
  return log_->closed().size() > mapped_ && log_->closed()[mapped_].synced;
}

void Engine::tick() {
  for (auto& [done, status] : std::exchange(later_, {})) done->on_complete(std::move(status));
  sweep();
  if (job_ && job_->done()) end_job(job_->take());
  if (!job_ && !stopped_) begin_job();
}

void Engine::begin_job() {
  if (log_->failed() != nullptr || clock_.monotonic() < retry_at_) return;
  if (!point_changes_.empty()) {
    job_ = change_points();
  } else if (map_is_due()) {
    job_ = make_maps(mapped_ + 1);
  } else if (!accounted_) {
    job_ = account_all();
  } else if (std::vector<size_t> victims = victims_due(); !victims.empty()) {
    job_ = collect(std::move(victims));
  } else {
    return;
  }
  job_->start();
}

void Engine::end_job(Status status) {
  job_.reset();
  if (status.ok()) {
    unlisted_.clear();
    error_.reset();
    return;
  }
  error_ = std::move(status).error();
  retry_at_ = Micros(clock_.monotonic().value + kRetryUs);
  // If MANIFEST's store failed it may list them all the same: the next opening knows.
  if (log_->failed() == nullptr) {
    for (const Unlisted& each : unlisted_) {
      static_cast<void>(storage_.close(each.file).ok());
      log_->unlink(each.name);
    }
  }
  unlisted_.clear();
}

Micros Engine::next_deadline() const {
  if (!later_.empty() || (job_ && job_->done())) return Micros(0);
  const auto free = [&](const Doomed& each) { return each.file.use_count() == 1; };
  if (std::ranges::any_of(doomed_, free)) return Micros(0);
  if (job_ || stopped_ || log_->failed() != nullptr) return kNever;
  if (point_changes_.empty() && !map_is_due() && accounted_ && victims_due().empty()) return kNever;
  return retry_at_;
}

Task<Status> Engine::store_lists(std::vector<uint64_t> collected) {
  if (log_->failed() != nullptr) co_return *log_->failed();
  co_return co_await StorageWait([&](Completion& done) { log_->store_lists(collected, done); });
}

uint64_t Engine::take_number() { return log_->manifest().next_file_number++; }

// ---- Points ----

void Engine::add_point(uint64_t ordinal, Completion& done) {
  point_changes_.push_back({.ordinal = ordinal, .withdrawn = false, .done = &done});
}
void Engine::withdraw_point(uint64_t ordinal, Completion& done) {
  point_changes_.push_back({.ordinal = ordinal, .withdrawn = true, .done = &done});
}

Task<Status> Engine::change_points() {
  const std::deque<PointChange> changes = std::exchange(point_changes_, {});
  std::vector<uint64_t>& list = log_->manifest().points;
  std::vector<Completion*> waiting;
  for (const PointChange& change : changes) {
    const bool there = std::ranges::find(list, change.ordinal) != list.end();
    if (change.withdrawn) {
      std::erase(list, change.ordinal);
      collected_in_vain_ = false;
    } else if (!there && view_at(change.ordinal).ok()) {
      list.push_back(change.ordinal);
    } else if (!there) {
      later_.emplace_back(
          change.done,
          Error{.code = ErrorCode::kConflict,
                .cause = fmt::format("the end of segment {} can't be kept any more: what it shows "
                                     "may be collected",
                                     change.ordinal)});
      continue;
    }
    waiting.push_back(change.done);
  }
  Status stored = co_await store_lists({});
  for (Completion* done : waiting) later_.emplace_back(done, stored);
  co_return stored;
}

Retained Engine::retained() const {
  Retained sequences;
  for (const uint64_t point : points()) {
    sequences.push_back(close_at(point).end.position.sequence);
  }
  std::ranges::sort(sequences);
  sequences.emplace_back(kNumberMax);  // the line's end
  return sequences;
}

// ---- What goes ----

void Engine::let_go(FilePtr file, bool segment) {
  if (segment) segment_files_.erase(file->id);
  doomed_.push_back({.file = std::move(file), .segment = segment});
}

void Engine::sweep() {
  for (auto doomed = doomed_.begin(); doomed != doomed_.end();) {
    const bool read = doomed->file.use_count() > 1 && !options_.faults.removed_under_readers;
    const bool shipped = doomed->segment && log_->closed()[doomed->file->id - 1].readers > 0;
    if (read || shipped || log_->failed() != nullptr) {
      ++doomed;
      continue;
    }
    if (doomed->segment) {
      log_->release_collected(log_->closed()[doomed->file->id - 1].number);
    } else {
      reads_.cache().forget(doomed->file->id);
      static_cast<void>(storage_.close(doomed->file->file).ok());
      log_->unlink(doomed->file->name);
    }
    doomed = doomed_.erase(doomed);
  }
}

EngineStatus Engine::status() const {
  EngineStatus status = counted_;
  status.mapped = mapped_;
  status.maps = maps_.size();
  status.locators = locators_.size();
  for (const DataFile& data : data_) {
    status.data_bytes += data.file->length;
    if (data.damaged) status.damaged.insert(data.file->name);
  }
  for (const auto& [run, map] : maps_) status.table_bytes += map->entry.length;
  for (const auto* list : {&locators_, &deaths_}) {
    for (const TablePtr& table : *list) status.table_bytes += table->entry.length;
  }
  return status;
}

}  // namespace hf::journal
