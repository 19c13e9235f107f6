// StagingQueue: records on their way to the file. At most one write is in flight; what comes
// meanwhile gathers in the next buffer and goes as one larger write, so writes complete in order
// and acknowledgement is by prefix.
//
//   front (in flight) → … → back (filling)      a buffer holds bytes of one file only
//
// Buffers are allocated once. A segment's extent table travels in its own bytes.
#pragma once

#include <memory>

#include "base/storage.h"
#include "journal/format/lineage.h"
#include "journal/log/ring.h"

namespace hf::journal {

// How far the line reaches, and the record time there.
struct Reach {
  LineEnd end;
  Micros time;
};

struct StagedWrite {
  uint64_t segment = 0;
  FileId file;
  uint64_t offset = 0;  // in the file
  size_t used = 0;
  std::unique_ptr<std::byte[]> buffer;
  Bytes table;                 // instead of `buffer`: a segment's table and footer, its last write
  std::optional<Reach> reach;  // after its last record; none in a table
  Micros first_time;           // record time of its first record
  size_t last_record = 0;      // where the last two records start, for Faults::records_swapped
  size_t previous_record = 0;

  bool is_table() const { return buffer == nullptr; }
  ByteSpan bytes() const { return is_table() ? ByteSpan(table) : ByteSpan(buffer.get(), used); }
  uint64_t end() const { return offset + bytes().size(); }
};

class StagingOwner {
 public:
  // The front write is done (or failed: nothing more will be issued). pump() to go on.
  virtual void on_written(StagedWrite& write, Status status) = 0;

 protected:
  ~StagingOwner() = default;
};

class StagingQueue final : private Completion {
 public:
  StagingQueue(Storage& storage, StagingOwner& owner, size_t buffer_bytes, bool swap_records);
  StagingQueue(const StagingQueue&) = delete;
  StagingQueue& operator=(const StagingQueue&) = delete;

  // A buffer is free: any record can be taken, also in another file.
  bool has_free_buffer() const { return !free_.empty(); }
  // `size` more bytes fit the filling buffer, leaving `reserve`.
  bool filling_fits(size_t size, size_t reserve) const;

  // `size` bytes for file offset `offset`: behind the filling buffer's if they continue it and fit
  // with `reserve`, else in a free buffer (asserted). The caller fills all of them.
  MutableByteSpan extend(uint64_t segment, FileId file, uint64_t offset, size_t size,
                         size_t reserve);
  // The bytes last extended end a record that reaches so far.
  void note(const Reach& reach, size_t record_size);
  void add_table(uint64_t segment, FileId file, uint64_t offset, Bytes table);
  // A spent table buffer to build the next one in.
  Bytes take_spare_table() { return std::move(spare_table_); }

  void pump();             // issues the front write unless one is in flight
  Status write_all_now();  // blocking, in order; nothing may be in flight

  // The bytes at [offset, offset + size) of `file` if they are still here; empty if not.
  ByteSpan find(FileId file, uint64_t offset, size_t size) const;
  bool in_flight() const { return in_flight_; }
  uint64_t front_segment() const { return queue_.front().segment; }  // of the next write
  bool empty() const { return queue_.empty(); }

 private:
  void on_complete(Status status) override;
  void retire(StagedWrite write);
  bool filling_open() const {
    return !queue_.empty() && !queue_.back().is_table() && !(in_flight_ && queue_.size() == 1);
  }
  static void swap_last_two(StagedWrite& write);

  static constexpr size_t kBuffers = 3;
  Storage& storage_;
  StagingOwner& owner_;
  const size_t buffer_bytes_;
  const bool swap_records_;
  Ring<StagedWrite> queue_{8};
  std::vector<std::unique_ptr<std::byte[]>> free_;
  Bytes spare_table_;
  bool in_flight_ = false;
};

}  // namespace hf::journal
