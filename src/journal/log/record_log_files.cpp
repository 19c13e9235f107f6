// RecordLog: files, their succession, and the MANIFEST that names them.
#include <algorithm>

#include "journal/log/record_log.h"

namespace hf::journal {

// While opening: at once.
Status RecordLog::make_segment_now() {
  Segment segment{.number = manifest_.next_file_number++, .closed = {}};
  segment.file = TRY_CONTEXT(storage_.open(segment.name(), OpenMode::kCreate), segment.name());
  TRY(storage_.truncate(segment.file, options_.segment_bytes));
  prepared_.push_back(std::move(segment));
  TRY(store_manifest_now());
  return {};
}

// Without zeroes written first: slower to sync, but soon there.
void RecordLog::make_segment() {
  Segment segment{
      .number = manifest_.next_file_number++, .closed = {}, .made = false, .listed = false};
  Making& making = makings_.emplace_back(*this, segment.number);
  segment.file = storage_.create(segment.name(), making);
  prepared_.push_back(std::move(segment));
}

void RecordLog::on_made(Making& making, Status status) {
  Segment* segment = find_any(making.number);
  HF_ASSERT(segment != nullptr && !segment->made);
  makings_.remove_if([&](const Making& other) { return &other == &making; });
  if (failed_) return;
  if (!status.ok()) return fail(std::move(status).error().context("begin a segment"));
  segment->made = true;
  want_manifest();
}

Status RecordLog::begin_segment() {
  HF_ASSERT(!open_.has_value());
  HF_ASSERT(summary_.records() == 0);
  if (prepared_.empty()) {
    if (opening_) {
      TRY(make_segment_now());
    } else {
      make_segment();
    }
  }
  open_ = std::move(prepared_.front());
  prepared_.erase(prepared_.begin());
  open_->first = line_.last().next();
  open_->marks.clear();
  open_->closed.reset();
  open_->synced = false;
  const MutableByteSpan head = staging_.extend(open_->number, open_->file, 0, kSegmentHeaderSize,
                                               kRecordSizeMax + Segment::kCloseStoredSize);
  encode_segment_header({.number = open_->number,
                         .vm = line_.vm(),
                         .first_sequence = open_->first,
                         .prev_chain = line_.end().chain,
                         .previous_close = previous_close_},
                        head);
  open_end_ = kSegmentHeaderSize;
  summary_.start(open_->first);
  return {};
}

Manifest RecordLog::current_manifest() const {
  Manifest manifest = manifest_;
  manifest.segments.clear();
  manifest.lineage.clear();
  Sequence listed = manifest.horizon.end.position.sequence;
  bool all_synced = true;
  // Up to the first whose file is not there yet: nothing was written into it or into what follows.
  bool made = true;
  const auto list = [&](const Segment& segment, const std::optional<ClosedSegment>& closed) {
    made = made && segment.made;
    if (made)
      manifest.segments.push_back(
          {.number = segment.number, .closed = closed, .collected = segment.collected});
  };
  for (const Segment& segment : closed_) {
    HF_ASSERT(segment.closed.has_value());
    all_synced = all_synced && segment.synced;
    list(segment, all_synced ? segment.closed : std::nullopt);
    if (all_synced) listed = segment.closed->last;
  }
  if (open_) list(*open_, std::nullopt);
  for (const Segment& segment : prepared_) list(segment, std::nullopt);
  // Only what cannot be lost any more; the scan finds the rest.
  for (const LineageEntry& entry : line_.lineage()) {
    if (entry.first <= listed) manifest.lineage.push_back(entry);
  }
  return manifest;
}

Result<ManifestStore> RecordLog::store_manifest_now() {
  HF_ASSERT(opening_ && !manifest_writer_.busy());
  ManifestStore snapshot = snapshot_of(current_manifest());
  TRY(store_manifest(storage_, snapshot));
  manifest_.generation = snapshot.state.generation;
  manifest_.last_store = snapshot.state.last_store;
  return snapshot;
}

uint64_t RecordLog::want_manifest() {
  HF_ASSERT(!opening_ && !failed_);
  manifest_wanted_ = true;
  const uint64_t generation = manifest_.generation + 1;
  if (!manifest_writer_.busy()) begin_store();
  return generation;
}

void RecordLog::begin_store() {
  manifest_wanted_ = false;
  ++manifest_.generation;
  // At rest MANIFEST is one snapshot, of which no byte may be missing.
  const auto form = quiescing_ ? ManifestWriter::Form::kSnapshot : ManifestWriter::Form::kShortest;
  manifest_writer_.store(current_manifest(), form, store_done_);
}

void RecordLog::on_manifest_stored(Status status) {
  if (failed_) return;
  if (!status.ok()) {
    const bool full = status.error().code == ErrorCode::kNoSpace;
    if (!full || !quiescing_ || !give_room_back())
      return fail(std::move(status).error().context("list the journal's files"));
    static_cast<void>(storage_.remove(kManifestNewName).ok());  // half of one may be there
    manifest_.generation = manifest_writer_.stored().generation;
    return begin_store();
  }
  const Manifest& stored = manifest_writer_.stored();
  HF_ASSERT(stored.generation == manifest_.generation);
  manifest_.last_store = stored.last_store;
  note_listed(stored);
  Completion* retired = nullptr;
  if (retiring_ && retiring_->generation <= stored.generation) {
    for (Segment& segment : retiring_->segments) recycle(std::move(segment));
    retired = retiring_->done;
    retiring_.reset();
  }
  Completion* lists = nullptr;
  if (lists_store_ && lists_store_->generation <= stored.generation) {
    lists = lists_store_->done;
    lists_store_.reset();
  }
  if (manifest_wanted_) begin_store();
  pump();
  finish_quiesce();
  if (retired != nullptr) retired->on_complete({});
  if (lists != nullptr) lists->on_complete({});
}

// The journal is being closed on a full disk, and MANIFEST, as it is left at rest, needs a block:
// the unused rest of closed segments goes, as at the next opening; without any, what was prepared
// for records to come. Blocking calls, but nothing is served any more.
bool RecordLog::give_room_back() {
  const auto cut = [&](const Segment& segment, uint64_t to) {
    const Result<uint64_t> size = storage_.size(segment.file);
    return size.ok() && *size > to && storage_.truncate(segment.file, to).ok();
  };
  bool given = false;
  for (const Segment& segment : closed_) {
    if (segment.synced) given = cut(segment, segment.closed_size()) || given;
  }
  if (given) return true;
  for (const Segment& segment : spare_) given = cut(segment, 0) || given;
  for (const Segment& segment : prepared_) given = cut(segment, 0) || given;
  return given;
}

void RecordLog::note_listed(const Manifest& stored) {
  for (const SegmentEntry& entry : stored.segments) {
    if (Segment* segment = find_any(entry.number)) segment->listed = true;
  }
}

namespace {
constexpr uint64_t kRewriteStep = 1u << 20;
}  // namespace

Status RecordLog::make_inherited_durable() {
  HF_ASSERT(opening_);
  const Result<FileId> mark = storage_.open(kSyncFailedName, OpenMode::kRead);
  if (mark.ok()) TRY(storage_.close(*mark));
  // Before anything that it doesn't list is removed: a process that died may have left an edit, or
  // a new name, that no sync covered, and a power loss would bring the older one back.
  TRY(make_manifest_durable(mark.ok()));
  // A file that a crash left may have the number of the next one.
  remove_unlisted();
  for (const Repair& repair : repairs_) {
    TRY(storage_.write_now(repair.file, repair.offset, repair.bytes));
  }
  repairs_.clear();
  for (FileId file : inherited_) TRY(sync_inherited(file, mark.ok()));
  if (mark.ok()) TRY(storage_.remove(kSyncFailedName));
  inherited_.clear();
  for (Segment& segment : closed_) segment.synced = true;
  return {};
}

Status RecordLog::make_manifest_durable(bool rewrite) {
  Result<FileId> file = storage_.open(kManifestName, OpenMode::kReadWrite);
  if (!file.ok()) {
    // None was stored yet.
    return file.error().code == ErrorCode::kNotFound ? Status() : std::move(file).error();
  }
  Status synced = sync_inherited(*file, rewrite);
  TRY(storage_.close(*file));
  TRY(std::move(synced));
  return storage_.sync_directory();
}

Status RecordLog::sync_inherited(FileId file, bool rewrite) {
  if (rewrite) {
    // The same bytes again, so that they are dirty and this sync carries them.
    const uint64_t size = TRY(storage_.size(file));
    Bytes bytes;
    for (uint64_t at = 0; at < size; at += bytes.size()) {
      bytes.resize(static_cast<size_t>(std::min<uint64_t>(size - at, kRewriteStep)));
      TRY(storage_.read_now(file, at, bytes));
      TRY(storage_.write_now(file, at, bytes));
    }
  }
  if (options_.faults.sync_skipped) return {};
  Status synced = storage_.sync_now(file);
  if (!synced.ok()) note_failed_sync();
  return synced;
}

// Best effort: a disk that takes no new name either is one that a reboot has to mend.
void RecordLog::note_failed_sync() {
  const Result<FileId> mark = storage_.open(kSyncFailedName, OpenMode::kCreate);
  if (mark.ok()) static_cast<void>(storage_.close(*mark).ok());
}

Status RecordLog::finish_opening() {
  HF_ASSERT(opening_ && repairs_.empty() && inherited_.empty());
  TRY(staging_.write_all_now());
  while (!unsynced_.empty()) {
    const Unsynced file = unsynced_.pop_front();
    TRY(sync_inherited(file.file, false));
    if (file.finished) note_segment_synced(file.segment);
    reached_durable(file.reach);
  }
  unsynced_bytes_ = 0;
  unsynced_since_ = kNever;
  TRY(manifest_writer_.begin(TRY(store_manifest_now())));
  HF_ASSERT(makings_.empty());
  // Giving pages back takes tens of milliseconds; an opening in a hurry leaves it to the next one.
  if (options_.verify_bytes_max > 0) TRY(cut_short_segments());
  opening_ = false;
  HF_ASSERT(durable_.end == line_.end());
  return {};
}

// A restart closes a segment early; its unused rest goes back to the file system.
Status RecordLog::cut_short_segments() {
  for (const Segment& segment : closed_) {
    HF_ASSERT(segment.synced);
    if (segment.collected) continue;
    const uint64_t size = TRY(storage_.size(segment.file));
    // A full segment keeps its length: recycled, it need not be written with zeroes again.
    if (size <= segment.closed_size() + options_.segment_bytes / 4) continue;
    TRY(storage_.truncate(segment.file, segment.closed_size()));
  }
  return {};
}

void RecordLog::remove_unlisted() {
  Result<std::vector<std::string>> names = storage_.list();
  if (!names.ok()) return;
  const std::set<std::string> ours = names_of(current_manifest());
  for (const std::string& name : *names) {
    constexpr std::array<std::string_view, 7> kPrefixes{
        "segment-", "base-", "map-", "locator-", "deaths-", "units-", kSeedNamePrefix};
    const bool journal_file = std::ranges::any_of(
        kPrefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
    if (journal_file && !ours.contains(name)) {
      static_cast<void>(storage_.remove(name).ok());  // tried again at the next start
    }
  }
}

Segment* RecordLog::segment_of(Sequence sequence) {
  if (open_ && sequence >= open_->first) return sequence <= line_.last() ? &*open_ : nullptr;
  const auto found = std::ranges::upper_bound(closed_, sequence, {},
                                              [](const Segment& segment) { return segment.first; });
  if (found == closed_.begin()) return nullptr;
  Segment& segment = *std::prev(found);
  HF_ASSERT(segment.closed.has_value());
  return sequence <= segment.closed->last && !segment.collected ? &segment : nullptr;
}

Segment* RecordLog::find_segment(uint64_t number) {
  if (open_ && open_->number == number) return &*open_;
  const auto found = std::ranges::find(closed_, number, &Segment::number);
  return found == closed_.end() ? nullptr : &*found;
}

Segment* RecordLog::find_any(uint64_t number) {
  if (Segment* segment = find_segment(number)) return segment;
  const auto found = std::ranges::find(prepared_, number, &Segment::number);
  return found == prepared_.end() ? nullptr : &*found;
}

uint64_t RecordLog::written_end(const Segment& segment) const {
  if (segment.number == written_segment_) return written_end_;
  return segment.closed ? segment.closed->close_offset + Segment::kCloseStoredSize
                        : kSegmentHeaderSize;
}

void RecordLog::retire_oldest(size_t count, Completion& done) {
  HF_ASSERT(count > 0 && count <= closed_.size() && !retiring_ && !failed_);
  retiring_ = Retiring{};
  retiring_->done = &done;
  for (size_t i = 0; i < count; ++i) {
    HF_ASSERT(closed_.front().synced && closed_.front().readers == 0);
    retiring_->segments.push_back(std::move(closed_.front()));
    closed_.pop_front();
  }
  const ClosedSegment& last = *retiring_->segments.back().closed;
  manifest_.horizon = {.end = {.position = {.incarnation = last.incarnation, .sequence = last.last},
                               .chain = last.chain},
                       .time = last.time,
                       .close = last.close_digest};
  retiring_->generation = want_manifest();
}

void RecordLog::store_lists(const std::vector<uint64_t>& collected, Completion& done) {
  HF_ASSERT(!lists_store_ && !failed_);
  for (const uint64_t number : collected) {
    const auto segment = std::ranges::find(closed_, number, &Segment::number);
    HF_ASSERT(segment != closed_.end() && segment->synced && !segment->collected);
    segment->collected = true;
  }
  lists_store_ = ListsStore{.generation = want_manifest(), .done = &done};
}

void RecordLog::release_collected(uint64_t number) {
  const auto segment = std::ranges::find(closed_, number, &Segment::number);
  HF_ASSERT(segment != closed_.end() && segment->collected && segment->readers == 0);
  segment->marks = {};
  recycle({.number = segment->number, .file = segment->file, .closed = segment->closed});
}

void RecordLog::recycle(Segment segment) {
  Result<uint64_t> size = storage_.size(segment.file);
  if (size.ok() && *size >= options_.segment_bytes && spare_.size() < options_.recycled_files_max) {
    segment.marks.clear();
    segment.closed.reset();
    spare_.push_back(std::move(segment));
    return;
  }
  static_cast<void>(storage_.close(segment.file).ok());
  unlink(segment.name());
}

void RecordLog::unlink(const std::string& name) {
  ++unlinks_in_flight_;
  storage_.unlink(name, unlink_done_);
}

}  // namespace hf::journal
