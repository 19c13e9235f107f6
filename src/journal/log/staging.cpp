#include "journal/log/staging.h"

#include <algorithm>

#include "journal/format/format.h"

namespace hf::journal {

StagingQueue::StagingQueue(Storage& storage, StagingOwner& owner, size_t buffer_bytes,
                           bool swap_records)
    : storage_(storage), owner_(owner), buffer_bytes_(buffer_bytes), swap_records_(swap_records) {
  HF_ASSERT(buffer_bytes >= kRecordSizeMax + kSegmentHeaderSize + kRecordHeaderSize * 4);
  for (size_t i = 0; i < kBuffers; ++i) {
    free_.push_back(std::make_unique_for_overwrite<std::byte[]>(buffer_bytes));
  }
}

bool StagingQueue::filling_fits(size_t size, size_t reserve) const {
  return filling_open() && queue_.back().used + size + reserve <= buffer_bytes_;
}

MutableByteSpan StagingQueue::extend(uint64_t segment, FileId file, uint64_t offset, size_t size,
                                     size_t reserve) {
  HF_ASSERT(size + reserve <= buffer_bytes_);
  const bool continues =
      filling_fits(size, reserve) && queue_.back().file == file && queue_.back().end() == offset;
  if (!continues) {
    HF_ASSERT(!free_.empty());
    StagedWrite write{.segment = segment, .file = file, .offset = offset};
    write.buffer = std::move(free_.back());
    free_.pop_back();
    queue_.push_back(std::move(write));
  }
  StagedWrite& filling = queue_.back();
  const MutableByteSpan space(filling.buffer.get() + filling.used, size);
  filling.used += size;
  HF_ASSERT(filling.used <= buffer_bytes_);
  return space;
}

void StagingQueue::note(const Reach& reach, size_t record_size) {
  HF_ASSERT(filling_open());
  StagedWrite& filling = queue_.back();
  HF_ASSERT(record_size <= filling.used);
  if (!filling.reach) filling.first_time = reach.time;
  filling.previous_record = filling.reach ? filling.last_record : filling.used - record_size;
  filling.last_record = filling.used - record_size;
  filling.reach = reach;
}

void StagingQueue::add_table(uint64_t segment, FileId file, uint64_t offset, Bytes table) {
  HF_ASSERT(!table.empty());
  StagedWrite write{.segment = segment, .file = file, .offset = offset};
  write.table = std::move(table);
  queue_.push_back(std::move(write));
}

void StagingQueue::swap_last_two(StagedWrite& write) {
  std::byte* first = write.buffer.get() + write.previous_record;
  std::byte* middle = write.buffer.get() + write.last_record;
  std::rotate(first, middle, write.buffer.get() + write.used);
}

void StagingQueue::pump() {
  if (in_flight_ || queue_.empty()) return;
  in_flight_ = true;
  StagedWrite& front = queue_.front();
  if (swap_records_ && front.reach && front.previous_record != front.last_record) {
    swap_last_two(front);
  }
  storage_.write(front.file, front.offset, front.bytes(), *this);
}

void StagingQueue::retire(StagedWrite write) {
  if (write.is_table()) {
    spare_table_ = std::move(write.table);
    spare_table_.clear();
  } else {
    free_.push_back(std::move(write.buffer));
    HF_ASSERT(free_.size() <= kBuffers);
  }
}

void StagingQueue::on_complete(Status status) {
  HF_ASSERT(in_flight_);
  in_flight_ = false;
  // The record bytes go back to the pool before anyone is told: who is told may append again.
  StagedWrite write = queue_.pop_front();
  StagedWrite done{.segment = write.segment,
                   .file = write.file,
                   .offset = write.offset,
                   .used = write.bytes().size(),
                   .reach = write.reach,
                   .first_time = write.first_time};
  retire(std::move(write));
  owner_.on_written(done, std::move(status));
}

Status StagingQueue::write_all_now() {
  HF_ASSERT(!in_flight_);
  while (!queue_.empty()) {
    const StagedWrite& front = queue_.front();
    TRY(storage_.write_now(front.file, front.offset, front.bytes()));
    StagedWrite write = queue_.pop_front();
    StagedWrite done{.segment = write.segment,
                     .file = write.file,
                     .offset = write.offset,
                     .used = write.bytes().size(),
                     .reach = write.reach,
                     .first_time = write.first_time};
    retire(std::move(write));
    owner_.on_written(done, {});
  }
  return {};
}

ByteSpan StagingQueue::find(FileId file, uint64_t offset, size_t size) const {
  for (size_t i = 0; i < queue_.size(); ++i) {
    const StagedWrite& write = queue_[i];
    if (write.file == file && write.offset <= offset && offset + size <= write.end()) {
      return write.bytes().subspan(static_cast<size_t>(offset - write.offset), size);
    }
  }
  return {};
}

}  // namespace hf::journal
