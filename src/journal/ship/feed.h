// Feed: durable records as they stand in the segments, for a peer; and whether a peer's position is
// on our line. Needs no key.
#pragma once

#include "journal/log/record_log.h"
#include "journal/ship/sealed_read.h"

namespace hf::journal {

class Feed final : private Completion {
 public:
  Feed(Storage& storage, RecordLog& log) : storage_(storage), log_(log) {}
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  void read_sealed(const Position& after, size_t max_bytes, SealedRead& done);
  Result<LineMatch> locate(const LineEnd& peer);
  bool busy() const { return done_ != nullptr; }

 private:
  // Where a record was found last: the next question is mostly for the one after it.
  struct Cursor {
    Sequence sequence;
    uint64_t segment = 0;
    uint64_t offset = 0;
  };
  void on_complete(Status status) override;
  void read_at(Segment& segment, uint64_t offset);
  Result<SealedBatch> cut_batch();
  void answer(Result<SealedBatch> batch);
  static uint64_t floor_mark(const Segment& segment, Sequence sequence);

  Storage& storage_;
  RecordLog& log_;
  SealedRead* done_ = nullptr;
  Position after_;
  size_t max_bytes_ = 0;
  uint64_t reading_ = 0;  // number of the segment being read; 0: the answer is ready
  uint64_t offset_ = 0;   // of buffer_[0] in it
  size_t used_ = 0;
  Bytes buffer_;
  std::optional<Error> refusal_;
  Cursor cursor_;
};

}  // namespace hf::journal
