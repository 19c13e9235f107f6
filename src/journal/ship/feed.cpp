#include "journal/ship/feed.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "journal/format/wire.h"

namespace hf::journal {

uint64_t Feed::floor_mark(const Segment& segment, Sequence sequence) {
  const auto after = std::ranges::upper_bound(
      segment.marks, sequence, {}, [](const SequenceMark& mark) { return mark.sequence; });
  return after == segment.marks.begin() ? kSegmentHeaderSize : std::prev(after)->offset;
}

void Feed::read_sealed(const Position& after, size_t max_bytes, SealedRead& done) {
  HF_ASSERT(done_ == nullptr);
  HF_ASSERT(max_bytes >= kRecordSizeMax);
  done_ = &done;
  after_ = after;
  max_bytes_ = max_bytes;
  reading_ = 0;
  refusal_.reset();
  const Line& line = log_.line();
  const Sequence from = after.sequence.next();
  if (!contains(line.lineage(), line.last(), after)) {
    refusal_ = Error{
        .code = ErrorCode::kConflict,
        .cause = fmt::format("position {} is not on this journal's line", after.sequence.value)};
  } else if (from <= log_.shippable()) {
    if (Segment* segment = log_.segment_of(from)) {
      const bool known = cursor_.sequence == from && cursor_.segment == segment->number;
      return read_at(*segment, known ? cursor_.offset : floor_mark(*segment, from));
    }
    refusal_ = Error{.code = ErrorCode::kNotFound,
                     .cause = fmt::format("record {} is merged into base files", from.value)};
  }
  log_.complete_later(*this, {});
}

void Feed::read_at(Segment& segment, uint64_t offset) {
  const uint64_t end = log_.written_end(segment);
  HF_ASSERT(offset < end);
  used_ = static_cast<size_t>(std::min<uint64_t>(max_bytes_, end - offset));
  if (buffer_.size() < used_) buffer_.resize(used_);
  reading_ = segment.number;
  offset_ = offset;
  ++segment.readers;
  storage_.read(segment.file, offset, MutableByteSpan(buffer_).first(used_), *this);
}

void Feed::on_complete(Status status) {
  HF_ASSERT(done_ != nullptr);
  if (reading_ == 0) {
    if (refusal_) return answer(std::move(*refusal_));
    return answer(SealedBatch{.records = {},
                              .last = after_,
                              .durable = log_.durable().end.position.sequence,
                              .oldest_time = {}});
  }
  Segment* segment = log_.find_segment(reading_);
  HF_ASSERT(segment != nullptr && segment->readers > 0);
  --segment->readers;
  if (!status.ok()) return answer(std::move(status).error().context(segment->name()));
  Result<SealedBatch> batch = cut_batch();
  if (!batch.ok()) return answer(std::move(batch).error().context(segment->name()));
  // The mark was far before it: go on from where the last header led.
  if (batch->records.empty()) return read_at(*segment, cursor_.offset);
  answer(std::move(batch));
}

// The records asked for among those in the buffer. None, with cursor_ moved on, if it holds only
// earlier ones.
Result<SealedBatch> Feed::cut_batch() {
  const Sequence durable = log_.durable().end.position.sequence;
  const ByteSpan bytes = ByteSpan(buffer_).first(used_);
  SealedBatch batch{.records = {}, .last = after_, .durable = durable, .oldest_time = {}};
  size_t at = 0;
  size_t first = 0;
  while (at + kRecordHeaderSize <= bytes.size()) {
    const RecordHeader header =
        TRY_CONTEXT(decode_header(bytes.subspan(at)), fmt::format("offset {}", offset_ + at));
    const size_t stored = header.stored_size();
    if (header.sequence > log_.shippable() || at + stored > bytes.size()) break;
    if (header.sequence > after_.sequence) {
      if (batch.oldest_time.value == 0) {
        if (header.sequence != after_.sequence.next()) return corrupt("a record is missing");
        batch.oldest_time = header.time;
        first = at;
      }
      batch.last = {.incarnation = header.incarnation, .sequence = header.sequence};
    }
    at += stored;
    if (header.kind == RecordKind::kClose) break;
  }
  if (at == 0) return corrupt(fmt::format("offset {}: no whole record", offset_));
  cursor_ = {.sequence = batch.last.sequence.next(), .segment = reading_, .offset = offset_ + at};
  if (batch.last.sequence > after_.sequence) batch.records = bytes.subspan(first, at - first);
  return batch;
}

void Feed::answer(Result<SealedBatch> batch) {
  SealedRead* done = std::exchange(done_, nullptr);
  done->on_sealed(std::move(batch));
}

Result<LineMatch> Feed::locate(const LineEnd& peer) {
  const Line& line = log_.line();
  const Sequence at = peer.position.sequence;
  if (at > line.last() && peer.position.incarnation == line.end().position.incarnation) {
    return LineMatch::kAhead;
  }
  if (!contains(line.lineage(), line.last(), peer.position)) return LineMatch::kForked;
  const auto compare = [&](const Digest& ours) {
    return ours == peer.chain ? LineMatch::kOnLine : LineMatch::kForked;
  };
  if (at == line.last()) return compare(line.end().chain);
  if (at == log_.appended().end.position.sequence) return compare(log_.appended().end.chain);
  // What is not appended yet can't be at a peer.
  if (at > log_.appended().end.position.sequence) return LineMatch::kForked;
  Segment* segment = log_.segment_of(at.next());
  if (segment == nullptr) return LineMatch::kMergedAway;
  SegmentScanner scanner(storage_, segment->file, floor_mark(*segment, at.next()),
                         log_.written_end(*segment));
  while (true) {
    const ScannedRecord record = TRY_CONTEXT(scanner.next(), segment->name());
    if (record.header.sequence > at.next()) return corrupt("a record is missing");
    if (record.header.sequence == at.next()) return compare(record.header.prev_chain);
  }
}

}  // namespace hf::journal
