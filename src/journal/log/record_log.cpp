#include "journal/log/record_log.h"

#include <algorithm>
#include <utility>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr size_t kCloseStored = Segment::kCloseStoredSize;
}

RecordLog::RecordLog(Storage& storage, Clock& clock, const LogOptions& options, Recovered recovered)
    : storage_(storage),
      clock_(clock),
      options_(options),
      manifest_(std::move(recovered.manifest)),
      line_(std::move(recovered.line)),
      summary_(std::move(recovered.summary)),
      previous_close_(recovered.previous_close),
      open_(std::move(recovered.open)),
      open_end_(recovered.open_end),
      prepared_(std::move(recovered.prepared)),
      repairs_(std::move(recovered.repairs)),
      inherited_(std::move(recovered.inherited)),
      manifest_writer_(storage),
      staging_(storage, *this, options.staging_bytes, options.faults.records_swapped) {
  HF_ASSERT(options.segment_bytes >= kSegmentHeaderSize + 2 * kCloseStored);
  HF_ASSERT(options.prepare_step_bytes > 0);
  for (Segment& segment : recovered.closed) closed_.push_back(std::move(segment));
  appended_ = {.end = line_.end(), .time = line_.time()};
  durable_ = appended_;  // once make_inherited_durable() has returned
  if (open_) {
    written_segment_ = open_->number;
    written_end_ = open_end_;
  } else {
    summary_.start(line_.last().next());
  }
}

RecordLog::~RecordLog() = default;

bool RecordLog::must_close_before(size_t stored) const {
  if (!open_ || summary_.records() == 0) return false;
  return open_end_ + stored + kCloseStored > options_.segment_bytes;
}

bool RecordLog::accepting() const {
  if (failed_) return false;
  if (staging_.has_free_buffer()) return true;
  return open_ && !must_close_before(kRecordSizeMax) &&
         staging_.filling_fits(kRecordSizeMax, kCloseStored);
}

Result<MutableByteSpan> RecordLog::reserve(RecordKind kind, size_t stored) {
  HF_ASSERT(stored % kRecordAlignment == 0 && stored <= kRecordSizeMax);
  if (failed_) return *failed_;
  if (line_.last().value >= kNumberMax) {
    fail({.code = ErrorCode::kLimit,
          .cause = "the journal's record numbers are used up",
          .mend = "no VM gets there by itself: who shipped this journal made the numbers up; run "
                  "the VM at the site that it came from"});
    return *failed_;
  }
  if (!open_) {
    Status begun = begin_segment();
    if (!begun.ok()) {
      fail(std::move(begun).error().context("begin a segment"));
      return *failed_;
    }
  }
  // The filling buffer always keeps room for a close, so that ending a segment never needs another.
  const size_t reserve = kind == RecordKind::kClose ? 0 : kCloseStored;
  return staging_.extend(open_->number, open_->file, open_end_, stored, reserve);
}

void RecordLog::commit(const RecordHeader& header, ByteSpan record) {
  HF_ASSERT(open_.has_value());
  HF_ASSERT(record.size() == header.stored_size());
  const uint64_t offset = open_end_;
  const Digest digest = header_digest(record.first<kRecordHeaderSize>());
  line_.advance(header, digest, record.subspan(kRecordHeaderSize, header.payload_length));
  open_end_ += record.size();
  staging_.note({.end = line_.end(), .time = header.time}, record.size());
  if (header.kind == RecordKind::kClose) {
    finish_segment(header, record, offset);
  } else {
    open_->mark(header.sequence, offset);
    summary_.add(header, digest, offset - kSegmentHeaderSize);
  }
  pump();
}

void RecordLog::pump() {
  if (opening_ || failed_ || staging_.in_flight() || staging_.empty()) return;
  const Segment* segment = find_segment(staging_.front_segment());
  HF_ASSERT(segment != nullptr);
  if (segment->listed) staging_.pump();
}

void RecordLog::finish_segment(const RecordHeader& close, ByteSpan record, uint64_t offset) {
  const ByteSpan payload = record.subspan(kRecordHeaderSize, close.payload_length);
  open_->closed =
      ClosedSegment{.first = open_->first,
                    .last = close.sequence,
                    .incarnation = close.incarnation,
                    .close_offset = offset,
                    .table_entries = summary_.table_entries(),
                    .time = close.time,
                    .close_digest = close_digest(record.first<kRecordHeaderSize>(), payload),
                    .chain = line_.end().chain};
  Bytes tail = staging_.take_spare_table();
  tail.assign(summary_.table().begin(), summary_.table().end());
  tail.resize(tail.size() + kSegmentFooterSize);
  encode_footer({.close_offset = offset,
                 .table_offset = open_end_,
                 .table_entries = open_->closed->table_entries,
                 .close_digest = open_->closed->close_digest},
                MutableByteSpan(tail).last<kSegmentFooterSize>());
  staging_.add_table(open_->number, open_->file, open_end_, std::move(tail));
  previous_close_ = open_->closed->close_digest;
  closed_.push_back(std::move(*open_));
  open_.reset();
  summary_.start(line_.last().next());
}

void RecordLog::acknowledge(Sequence sequence, Completion& done) {
  HF_ASSERT(sequence == line_.last());
  if (options_.faults.acknowledged_before_appended) return complete_later(done, {});
  if (failed_) return complete_later(done, *failed_);
  acks_.push_back({.sequence = sequence, .done = &done});
}

void RecordLog::acknowledge_durable(Sequence sequence, Completion& done) {
  HF_ASSERT(sequence <= line_.last());
  if (failed_) return complete_later(done, *failed_);
  if (sequence <= durable_.end.position.sequence) return complete_later(done, {});
  durable_acks_.push_back({.sequence = sequence, .done = &done});
  start_sync();
}

void RecordLog::complete_later(Completion& done, Status status) {
  later_.push_back({.done = &done, .status = std::move(status)});
}

void RecordLog::on_written(StagedWrite& write, Status status) {
  if (failed_) return;
  if (!status.ok()) return fail(std::move(status).error().context("append to the journal"));
  note_unsynced(write);
  if (write.reach) {
    HF_ASSERT(write.reach->end.position.sequence > appended_.end.position.sequence);
    appended_ = *write.reach;
    written_segment_ = write.segment;
    written_end_ = write.offset + write.used;
    first_times_.push_back({.last = appended_.end.position.sequence, .time = write.first_time});
  }
  if (opening_) return;
  pump();
  start_sync();
  // Last: who is told may append, flush or read again.
  while (!acks_.empty() && acks_.front().sequence <= appended_.end.position.sequence) {
    acks_.pop_front().done->on_complete({});
  }
}

void RecordLog::note_unsynced(const StagedWrite& write) {
  if (unsynced_.empty() || unsynced_.back().segment != write.segment) {
    unsynced_.push_back({.segment = write.segment, .file = write.file, .reach = appended_});
  }
  Unsynced& file = unsynced_.back();
  ++file.writes;
  if (write.reach) {
    file.reach = *write.reach;
  } else {
    file.finished = true;
  }
  unsynced_bytes_ += write.used;
  if (unsynced_since_ == kNever) unsynced_since_ = clock_.monotonic();
}

bool RecordLog::idle() const {
  return !staging_.in_flight() && !sync_in_flight_ && !sync_pretended_ && !prepare_in_flight_ &&
         !manifest_writer_.busy() && makings_.empty() && unlinks_in_flight_ == 0;
}

void RecordLog::fail(Error error) {
  if (failed_) return;
  const bool full = error.code == ErrorCode::kNoSpace;
  failed_ =
      std::move(error)
          .with_effect(
              "The journal takes nothing more: its guest stands still, a replica falls behind")
          .with_mend(
              full ? "free space on the state directory's file system; it then goes on by itself"
                   : "mend the storage, then start the VM again: holdfast vm start");
  // From tick(): whoever caused it may be inside a call.
  while (!acks_.empty()) complete_later(*acks_.pop_front().done, *failed_);
  for (const PendingAck& ack : durable_acks_) complete_later(*ack.done, *failed_);
  durable_acks_.clear();
  if (quiesce_done_ != nullptr) complete_later(*std::exchange(quiesce_done_, nullptr), *failed_);
  if (retiring_) complete_later(*retiring_->done, *failed_);
  retiring_.reset();
  if (lists_store_) complete_later(*lists_store_->done, *failed_);
  lists_store_.reset();
}

}  // namespace hf::journal
