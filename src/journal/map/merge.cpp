#include "journal/map/merge.h"

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr uint64_t kRetryUs = 10'000'000;
constexpr uint64_t kBusyRetryUs = 1'000;
constexpr size_t kExtentsPerStep = 4096;  // looked at between two turns of the event loop
}  // namespace

bool Merger::is_source(uint64_t file) const { return std::ranges::binary_search(sources_, file); }

bool Merger::may_merge() const {
  return !stopped_ && options_.merge_keep_segments > 0 && parts_.log.failed() == nullptr;
}

bool Merger::due() const {
  if (!may_merge()) return false;
  const auto& closed = parts_.log.closed();
  const size_t batch = std::max<size_t>(options_.merge_batch_segments, 1);
  if (closed.size() < options_.merge_keep_segments + batch) return false;
  const Segment& last = closed[batch - 1];
  return last.synced && !parts_.pins.holds(last.closed->last);
}

Micros Merger::next_step_at() const {
  if (in_flight_ || parts_.log.failed() != nullptr) return kNever;
  if (may_merge() && parts_.pins.exceeded(parts_.log.closed(), parts_.clock.monotonic())) {
    return Micros(0);
  }
  if (state_ == State::kIdle && !due()) return kNever;
  if (state_ != State::kIdle && state_ != State::kSwitch) return Micros(0);
  return std::max(retry_at_, parts_.pins.held_until());
}

void Merger::tick() {
  if (in_flight_ || parts_.log.failed() != nullptr) return;
  const Micros now = parts_.clock.monotonic();
  if (may_merge()) parts_.pins.review(parts_.log.closed(), now);
  if (state_ == State::kIdle) {
    if (due() && now >= std::max(retry_at_, parts_.pins.held_until())) begin();
    return;
  }
  switch (state_) {
    case State::kSources:
      return read_sources();
    case State::kCopying:
      return copy_step();
    case State::kInstall:
      return install_step();
    case State::kSwitch:
      return switch_over();
    default:
      HF_ASSERT(false);
  }
}

void Merger::begin() {
  HF_ASSERT(state_ == State::kIdle && sources_.empty());
  const Manifest& manifest = parts_.log.manifest();
  source_segments_ = std::max<size_t>(options_.merge_batch_segments, 1);
  with_bases_ = manifest.bases.size() >= options_.merge_bases_max;
  number_ = parts_.log.manifest().next_file_number++;
  for (size_t i = 0; i < source_segments_; ++i) sources_.push_back(parts_.log.closed()[i].number);
  if (with_bases_) {
    for (const BaseEntry& base : manifest.bases) sources_.push_back(base.number);
  }
  std::ranges::sort(sources_);
  header_ = {.vm = parts_.keys.vm(), .key_version = parts_.keys.version()};
  parts_.rng.fill(header_.salt);
  aead_ = parts_.keys.base_aead(header_.salt);
  table_.clear();
  installed_ = 0;
  runs_ = 0;
  next_source_ = 0;
  then_ = std::make_unique<Index>();
  data_.emplace();
  cursor_ = {};
  file_end_ = 0;
  out_.resize(kBaseHeaderSize);
  encode_base_header(header_, out_);
  keeps_older_ = !manifest.bases.empty() && !with_bases_;
  state_ = State::kCreate;
  in_flight_ = true;
  file_ = parts_.storage.create(base_name(number_), *this);
}

void Merger::issue_write(ByteSpan bytes, State then) {
  HF_ASSERT(!in_flight_);
  in_flight_ = true;
  next_ = then;
  const uint64_t offset = file_end_;
  file_end_ += bytes.size();
  if (state_ != State::kTable) data_->update(bytes);
  parts_.storage.write(file_, offset, bytes, *this);
}

void Merger::on_complete(Status status) {
  HF_ASSERT(in_flight_);
  in_flight_ = false;
  if (state_ == State::kSwitching) return on_switched(status);
  if (stopped_) return drop_file();
  if (!status.ok()) return abandon(std::move(status).error());
  switch (state_) {
    case State::kCreate:
      state_ = State::kHeader;
      return issue_write(out_, State::kSources);
    case State::kSources:
      if (Status taken = take_sources(); !taken.ok()) return abandon(std::move(taken).error());
      return;
    case State::kCopying:
      return seal_run();
    case State::kTable:
      state_ = State::kSync;
      next_ = State::kInstall;
      in_flight_ = true;
      return parts_.storage.sync(file_, *this);
    case State::kSync:
      parts_.files.add(number_, file_, PlaceKind::kRun);
      parts_.reader.add_base_key(number_, parts_.keys.base_aead(header_.salt));
      break;
    default:
      break;
  }
  state_ = next_;
}

// The table of the next source, oldest first.
void Merger::read_sources() {
  const std::vector<BaseEntry>& bases = parts_.log.manifest().bases;
  const size_t base_count = with_bases_ ? bases.size() : 0;
  if (next_source_ == base_count + source_segments_) {
    state_ = State::kCopying;
    return;
  }
  FileId file;
  uint64_t offset = 0;
  uint64_t entries = 0;
  if (next_source_ < base_count) {
    const BaseEntry& base = bases[next_source_];
    file = parts_.files.at(base.number).file;
    offset = base.table_offset;
    entries = base.table_entries;
  } else {
    const Segment& segment = parts_.log.closed()[next_source_ - base_count];
    file = segment.file;
    offset = segment.closed->close_offset + Segment::kCloseStoredSize;
    entries = segment.closed->table_entries;
  }
  plain_.resize(static_cast<size_t>(entries) * kExtentEntrySize);
  if (plain_.empty()) {
    ++next_source_;
    return;
  }
  in_flight_ = true;
  parts_.storage.read(file, offset, plain_, *this);
}

Status Merger::take_sources() {
  const std::vector<BaseEntry>& bases = parts_.log.manifest().bases;
  const size_t base_count = with_bases_ ? bases.size() : 0;
  const bool is_base = next_source_ < base_count;
  const uint64_t number =
      is_base ? bases[next_source_].number : parts_.log.closed()[next_source_ - base_count].number;
  const uint64_t begin = is_base ? kBaseHeaderSize : kSegmentHeaderSize;
  for (size_t at = 0; at < plain_.size(); at += kExtentEntrySize) {
    const ExtentEntry entry = TRY(decode_extent(ByteSpan(plain_).subspan(at, kExtentEntrySize)));
    if (entry.kind != RecordKind::kZero) {
      then_->insert(entry.volume, entry.offset, entry.length,
                    {.start = entry.offset,
                     .length = static_cast<uint32_t>(entry.length),
                     .kind = is_base ? PlaceKind::kRun : PlaceKind::kRecord,
                     .file = number,
                     .position = begin + entry.position,
                     .sequence = entry.sequence.value});
      continue;
    }
    then_->erase(entry.volume, entry.offset, entry.length);
    // It hides what older bases hold; without older bases, nothing.
    if (!keeps_older_) continue;
    std::array<std::byte, kExtentEntrySize> zero;
    encode_extent({.volume = entry.volume,
                   .kind = RecordKind::kZero,
                   .offset = entry.offset,
                   .length = entry.length},
                  zero);
    table_.insert(table_.end(), zero.begin(), zero.end());
  }
  ++next_source_;
  return {};
}

// Is a byte of it still what is read there? (Faults::overwritten_left_out)
bool Merger::lives_in_source(const Index::Found& found) const {
  for (uint64_t at = found.extent.offset; at < found.extent.end();) {
    const auto live = parts_.index.find(found.volume, at, found.extent.end());
    if (!live) return false;
    if (is_source(live->place.file)) return true;
    at = live->end();
  }
  return false;
}

// The next run of neighbouring bytes that lived in the sources where they end. None: look again
// from cursor_ (the step was used up), or, with state_ moved on, there are no more.
std::optional<Merger::Run> Merger::next_run() {
  const uint64_t limit = std::clamp<uint64_t>(options_.merge_step_bytes, kUnitSize, kRecordDataMax);
  std::optional<Run> run;
  for (size_t looked = 0; looked < kExtentsPerStep; ++looked) {
    const std::optional<Index::Found> found = then_->next(cursor_);
    if (!found) {
      if (!run) write_table();
      return run;
    }
    const IndexExtent& extent = found->extent;
    if (options_.log.faults.overwritten_left_out && !lives_in_source(*found)) {
      if (run) return run;
      cursor_ = {.volume = found->volume, .offset = extent.offset + 1};
      continue;
    }
    if (run) {
      const bool joins = found->volume == run->volume &&
                         extent.offset == run->offset + run->length &&
                         run->length + extent.length <= limit;
      if (!joins) return run;
      run->length += extent.length;
    } else {
      HF_ASSERT(extent.length <= kRecordDataMax);
      run = {.volume = found->volume, .offset = extent.offset, .length = extent.length};
    }
    cursor_ = {.volume = found->volume, .offset = extent.offset + 1};
  }
  return run;
}

void Merger::copy_step() {
  const std::optional<Run> run = next_run();
  if (!run) return;
  run_ = *run;
  plain_.resize(static_cast<size_t>(run_.length));
  in_flight_ = true;
  parts_.reader.read(run_.volume, run_.offset, plain_, *this, then_.get());
}

void Merger::seal_run() {
  const Place place{.start = run_.offset,
                    .length = static_cast<uint32_t>(run_.length),
                    .kind = PlaceKind::kRun,
                    .file = number_,
                    .position = file_end_,
                    .sequence = ++runs_};
  const RunAad aad = run_aad(run_.volume, place);
  table_.insert(table_.end(), aad.begin(), aad.end());
  const size_t sealed = sealed_size(run_.offset, plain_.size());
  out_.assign(align_record(sealed), std::byte{0});
  seal_units(*aead_, place.sequence, aad, run_.offset, plain_, MutableByteSpan(out_).first(sealed));
  state_ = State::kWriting;
  issue_write(out_, State::kCopying);
}

void Merger::write_table() {
  const ClosedSegment& last = *parts_.log.closed()[source_segments_ - 1].closed;
  const Horizon& horizon = parts_.log.manifest().horizon;
  const Bytes lineage = encode_lineage(parts_.log.line().lineage(), last.last);
  const BaseFooter footer{
      .header = header_,
      .table_offset = file_end_,
      .table_entries = table_.size() / kExtentEntrySize,
      .table_digest = crypto::sha256(table_),
      .through = {.end = {.position = {.incarnation = last.incarnation, .sequence = last.last},
                          .chain = last.chain},
                  .time = last.time,
                  .close = last.close_digest},
      .since = keeps_older_ ? horizon.end : LineEnd{},
      .lineage_digest = crypto::sha256(lineage),
      .data_digest = data_->finish()};
  out_.assign(table_.begin(), table_.end());
  out_.resize(table_.size() + kBaseFooterSize);
  encode_base_footer(footer, parts_.keys.signing(), MutableByteSpan(out_).last<kBaseFooterSize>());
  state_ = State::kTable;
  issue_write(out_, State::kSync);
}

void Merger::install_step() {
  for (size_t looked = 0; looked < kExtentsPerStep && installed_ < table_.size(); ++looked) {
    const auto entry = decode_extent(ByteSpan(table_).subspan(installed_, kExtentEntrySize));
    HF_ASSERT(entry.ok());
    installed_ += kExtentEntrySize;
    if (entry->kind == RecordKind::kZero) continue;
    const Place place{.start = entry->offset,
                      .length = static_cast<uint32_t>(entry->length),
                      .kind = PlaceKind::kRun,
                      .file = number_,
                      .position = kBaseHeaderSize + entry->position,
                      .sequence = entry->sequence.value};
    const uint64_t end = entry->offset + entry->length;
    for (uint64_t at = entry->offset; at < end;) {
      const std::optional<IndexExtent> extent = parts_.index.find(entry->volume, at, end);
      if (!extent) break;
      if (is_source(extent->place.file)) {
        parts_.index.insert(entry->volume, extent->offset, extent->length, place);
      }
      at = extent->end();
    }
  }
  if (installed_ == table_.size()) state_ = State::kSwitch;
}

void Merger::switch_over() {
  if (parts_.clock.monotonic() < parts_.pins.held_until()) return;
  // Reads that began before the install, and the feed, keep their files.
  for (uint64_t source : sources_) {
    if (!parts_.files.busy(source)) continue;
    retry_at_ = Micros(parts_.clock.monotonic().value + kBusyRetryUs);
    return;
  }
  for (size_t i = 0; i < source_segments_; ++i) {
    if (parts_.log.closed()[i].readers == 0) continue;
    retry_at_ = Micros(parts_.clock.monotonic().value + kBusyRetryUs);
    return;
  }
  Manifest& manifest = parts_.log.manifest();
  merged_.clear();
  if (with_bases_) merged_ = std::exchange(manifest.bases, {});
  manifest.bases.push_back({.number = number_,
                            .table_offset = file_end_ - out_.size(),
                            .table_entries = table_.size() / kExtentEntrySize,
                            .footer_digest = crypto::sha256(ByteSpan(out_).last(kBaseFooterSize))});
  state_ = State::kSwitching;
  in_flight_ = true;
  parts_.log.retire_oldest(source_segments_, *this);
}

// On failure the journal has failed, with this error; its files are all still there.
void Merger::on_switched(const Status& status) {
  if (status.ok()) {
    for (const BaseEntry& base : merged_) {
      static_cast<void>(parts_.storage.close(parts_.files.at(base.number).file).ok());
      parts_.log.unlink(base_name(base.number));
      parts_.reader.remove_base_key(base.number);
    }
    for (uint64_t source : sources_) parts_.files.remove(source);
    parts_.pins.merged();
  }
  forget();
}

void Merger::forget() {
  sources_.clear();
  merged_.clear();
  aead_.reset();
  then_.reset();
  state_ = State::kIdle;
}

void Merger::stop() {
  stopped_ = true;
  if (!in_flight_ && state_ != State::kIdle) drop_file();
}

void Merger::abandon(Error error) {
  error_ = std::move(error).context("merge");
  retry_at_ = Micros(parts_.clock.monotonic().value + kRetryUs);
  drop_file();
}

// Before the install nothing names the file; after it, the index does: then it stays, unlisted,
// until the process ends.
void Merger::drop_file() {
  const bool installed = state_ == State::kInstall || state_ == State::kSwitch;
  if (!installed && !sources_.empty()) {
    static_cast<void>(parts_.storage.close(file_).ok());
    parts_.log.unlink(base_name(number_));
  }
  forget();
}

}  // namespace hf::journal
