// Segment: what a running journal knows of one segment file.
#pragma once

#include "base/storage.h"
#include "journal/format/manifest.h"
#include "journal/log/line.h"

namespace hf::journal {

// A record's place, every so often, so that a position is found without reading a whole segment.
struct SequenceMark {
  Sequence sequence;
  uint64_t offset = 0;  // in the file
};
inline constexpr uint64_t kMarkEvery = 256u << 10;  // bytes

struct Segment {
  uint64_t number = 0;
  FileId file;
  Sequence first;
  std::optional<ClosedSegment> closed;
  bool collected = false;  // it has no file any more
  bool synced = false;     // closed, and every byte of it durable: MANIFEST may say so
  bool made = true;        // its file is there; false: asked for
  bool listed = true;      // a durable MANIFEST names it: a record in it may count
  std::vector<SequenceMark> marks;
  uint32_t readers = 0;  // reads in flight: the file may not be recycled

  std::string name() const { return segment_name(number); }
  void mark(Sequence sequence, uint64_t offset) {
    if (marks.empty() || offset >= marks.back().offset + kMarkEvery)
      marks.push_back({sequence, offset});
  }
  // Bytes of the file that mean something, once closed.
  uint64_t closed_size() const {
    HF_ASSERT(closed.has_value());
    return closed->close_offset + kCloseStoredSize + closed->table_entries * kExtentEntrySize +
           kSegmentFooterSize;
  }
  static constexpr uint64_t kCloseStoredSize = align_record(kRecordHeaderSize + kClosePayloadSize);
};

}  // namespace hf::journal
