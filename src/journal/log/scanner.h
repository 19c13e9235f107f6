// SegmentScanner: walks the records of a segment file, in order, by blocking reads.
#pragma once

#include "base/storage.h"
#include "journal/format/format.h"

namespace hf::journal {

struct ScannedRecord {
  RecordHeader header;
  ByteSpan raw_header;  // kRecordHeaderSize; these spans are valid until the next call
  ByteSpan payload;
  uint64_t offset = 0;  // in the file

  ConstRecordHeaderBytes header_bytes() const { return raw_header.first<kRecordHeaderSize>(); }
  uint64_t end() const { return offset + header.stored_size(); }
};

// A record at the front of `bytes`: header decoded, payload digest and padding checked. kCorrupt
// says what is wrong; its place in the line is not looked at.
Result<ScannedRecord> parse_record(ByteSpan bytes);

class SegmentScanner {
 public:
  // From file offset `from`; never past `limit` (the file's size, or less).
  SegmentScanner(Storage& storage, FileId file, uint64_t from, uint64_t limit);

  // The next whole record, checked as parse_record does. kCorrupt is also what a torn or absent
  // record is; the scanner then stays where it was. Other codes are the storage's.
  Result<ScannedRecord> next();
  uint64_t offset() const { return offset_; }

 private:
  // Makes `size` bytes at offset_ available; kCorrupt if the file ends before.
  Status need(size_t size);

  Storage& storage_;
  FileId file_;
  uint64_t limit_;
  uint64_t offset_;       // of the next record
  uint64_t window_from_;  // file offset of window_[0]
  size_t window_used_ = 0;
  Bytes window_;
};

}  // namespace hf::journal
