#include "journal/log/scanner.h"

#include <algorithm>

#include "journal/format/wire.h"
#include "journal/units/units.h"

namespace hf::journal {

namespace {
constexpr size_t kWindowSize = 4u << 20;
static_assert(kWindowSize >= kRecordSizeMax);
}  // namespace

Result<ScannedRecord> parse_record(ByteSpan bytes) {
  ScannedRecord record;
  record.header = TRY(decode_header(bytes));
  const size_t stored = record.header.stored_size();
  if (bytes.size() < stored) return corrupt("record is cut short");
  record.raw_header = bytes.first(kRecordHeaderSize);
  record.payload = bytes.subspan(kRecordHeaderSize, record.header.payload_length);
  const size_t end = kRecordHeaderSize + record.header.payload_length;
  if (!all_zero(bytes.subspan(end, stored - end))) return corrupt("record's padding is set");
  if (payload_digest(record.header, record.payload) != record.header.payload_digest) {
    return corrupt("record's payload differs from its digest");
  }
  return record;
}

SegmentScanner::SegmentScanner(Storage& storage, FileId file, uint64_t from, uint64_t limit)
    : storage_(storage), file_(file), limit_(limit), offset_(from), window_from_(from) {
  HF_ASSERT(from % kRecordAlignment == 0);
  const uint64_t whole = limit > from ? limit - from : 0;
  window_.resize(static_cast<size_t>(std::min<uint64_t>(whole, kWindowSize)));
}

Status SegmentScanner::need(size_t size) {
  HF_ASSERT(offset_ >= window_from_);
  const size_t start = static_cast<size_t>(offset_ - window_from_);
  HF_ASSERT(start <= window_used_);
  if (window_used_ - start >= size) return {};
  std::copy(window_.begin() + static_cast<ptrdiff_t>(start),
            window_.begin() + static_cast<ptrdiff_t>(window_used_), window_.begin());
  window_used_ -= start;
  window_from_ = offset_;
  const uint64_t read_from = window_from_ + window_used_;
  const uint64_t left = limit_ > read_from ? limit_ - read_from : 0;
  const size_t take = static_cast<size_t>(std::min<uint64_t>(left, window_.size() - window_used_));
  if (take > 0) {
    TRY(storage_.read_now(file_, read_from, MutableByteSpan(window_).subspan(window_used_, take)));
    window_used_ += take;
  }
  if (window_used_ < size) return corrupt("the file ends inside a record");
  return {};
}

Result<ScannedRecord> SegmentScanner::next() {
  TRY(need(kRecordHeaderSize));
  const ByteSpan head = ByteSpan(window_).subspan(static_cast<size_t>(offset_ - window_from_));
  const RecordHeader header = TRY(decode_header(head));
  TRY(need(header.stored_size()));
  const size_t start = static_cast<size_t>(offset_ - window_from_);
  ScannedRecord record = TRY(parse_record(ByteSpan(window_).subspan(start, window_used_ - start)));
  record.offset = offset_;
  offset_ = record.end();
  return record;
}

}  // namespace hf::journal
