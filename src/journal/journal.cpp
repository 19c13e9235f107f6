#include "journal/journal.h"

#include <algorithm>

#include "journal/format/wire.h"
#include "journal/journal_impl.h"

namespace hf::journal {

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::~Journal() = default;

RecordHeader Journal::Impl::header_of(RecordKind kind) const {
  const Line& line = log->line();
  RecordHeader header;
  header.kind = kind;
  header.sequence = line.last().next();
  header.vm = line.vm();
  header.incarnation = line.end().position.incarnation;
  header.key_version = sealer->keys().version();
  header.time = std::max(line.time(), clock.wall_time());
  header.prev_chain = line.end().chain;
  return header;
}

Status Journal::Impl::append_close() {
  RecordHeader header = header_of(RecordKind::kClose);
  header.payload_length = kClosePayloadSize;
  const CloseBody body = log->close_body();
  const MutableByteSpan record = TRY(log->reserve(header.kind, header.stored_size()));
  sealer->sign_close(header, body, record);
  log->commit(header, record);
  return {};
}

Result<Sequence> Journal::Impl::append(RecordHeader header, ByteSpan data, Completion* done,
                                       WriteOptions how) {
  if (log->failed() != nullptr) return *log->failed();
  if (closing) return Error{.code = ErrorCode::kConflict, .cause = "the journal is closing"};
  if (data.size() > kRecordDataMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "more data than a record holds"};
  }
  if (!log->accepting()) {
    return Error{.code = ErrorCode::kLimit, .cause = "the journal's staging buffers are full"};
  }
  const size_t stored = align_record(kRecordHeaderSize + sealed_size(header.offset, data.size()));
  if (log->must_close_before(stored)) TRY(append_close());
  const MutableByteSpan record = TRY(log->reserve(header.kind, stored));
  // The close took the number before; the place in the line is known only now.
  const RecordHeader place = header_of(header.kind);
  header.sequence = place.sequence;
  header.prev_chain = place.prev_chain;
  header.time = place.time;
  header.flags = how.part == RequestPart::kLast ? kFlagRequestEnd : uint8_t{0};
  sealer->seal_record(header, data, record);
  const uint64_t offset = log->open_end();
  log->commit(header, record);
  index_record(header, offset);
  if (done != nullptr) {
    if (how.ack == AckAt::kAppended) {
      log->acknowledge(header.sequence, *done);
    } else {
      log->acknowledge_durable(header.sequence, *done);
    }
  }
  return header.sequence;
}

void Journal::Impl::index_record(const RecordHeader& header, uint64_t offset) {
  if (header.kind == RecordKind::kZero)
    return index.erase(header.volume, header.offset, header.length);
  if (header.kind != RecordKind::kWrite) return;
  const Segment* segment = log->open_segment();
  HF_ASSERT(segment != nullptr);
  if (!files.has(segment->number)) files.add(segment->number, segment->file, PlaceKind::kRecord);
  index.insert(header.volume, header.offset, header.length,
               {.start = header.offset,
                .length = static_cast<uint32_t>(header.length),
                .kind = PlaceKind::kRecord,
                .file = segment->number,
                .position = offset,
                .sequence = header.sequence.value});
}

Result<Sequence> Journal::write(VolumeId volume, uint64_t offset, ByteSpan data, Completion* done,
                                WriteOptions how) {
  HF_ASSERT(!data.empty() && offset <= kNumberMax && data.size() <= kNumberMax - offset);
  RecordHeader header = impl_->header_of(RecordKind::kWrite);
  header.volume = volume;
  header.offset = offset;
  header.length = data.size();
  return impl_->append(header, data, done, how);
}

Result<Sequence> Journal::zero(VolumeId volume, uint64_t offset, uint64_t length, Completion* done,
                               WriteOptions how) {
  HF_ASSERT(length > 0 && offset <= kNumberMax && length <= kNumberMax - offset);
  RecordHeader header = impl_->header_of(RecordKind::kZero);
  header.volume = volume;
  header.offset = offset;
  header.length = length;
  return impl_->append(header, {}, done, how);
}

Result<Sequence> Journal::marker(ByteSpan data, Completion* done, WriteOptions how) {
  RecordHeader header = impl_->header_of(RecordKind::kMarker);
  header.length = data.size();
  return impl_->append(header, data, done, how);
}

bool Journal::accepting() const { return !impl_->closing && impl_->log->accepting(); }

void Journal::flush(Completion& done) {
  impl_->log->acknowledge_durable(impl_->log->appended().end.position.sequence, done);
}

void Journal::read(VolumeId volume, uint64_t offset, MutableByteSpan to, Completion& done) {
  impl_->reader->read(volume, offset, to, done);
}

void Journal::read_sealed(const Position& after, size_t max_bytes, SealedRead& done) {
  impl_->published->feed.read_sealed(after, max_bytes, done);
}

Result<LineMatch> Journal::locate(const LineEnd& peer) {
  return impl_->published->feed.locate(peer);
}

Result<Bytes> Journal::describe_seed() {
  Bytes description = TRY(impl_->published->seed.describe());
  impl_->pins.lease(impl_->clock.monotonic(), impl_->published->seed.bytes());
  return description;
}

void Journal::read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) {
  impl_->pins.renew_lease(impl_->clock.monotonic(), length);
  impl_->published->seed.read(base, offset, length, done);
}

void Journal::pin(std::optional<Sequence> peer_durable) { impl_->pins.pin(peer_durable); }
std::optional<PinRelease> Journal::take_pin_release() { return impl_->pins.take_release(); }

void Journal::tick() {
  impl_->log->tick();
  impl_->merger->tick();
}

Micros Journal::next_deadline() const {
  return std::min(impl_->log->next_deadline(), impl_->merger->next_step_at());
}

void Journal::close(Completion& done) {
  HF_ASSERT(!impl_->closing);
  impl_->closing = true;
  impl_->merger->stop();
  if (impl_->log->failed() == nullptr && impl_->log->open_has_records()) {
    Status closed = impl_->append_close();
    if (!closed.ok()) return impl_->log->complete_later(done, std::move(closed));
  }
  impl_->log->quiesce(done);
}

LineEnd Journal::end() const { return impl_->log->appended().end; }
LineEnd Journal::durable_end() const { return impl_->log->durable().end; }
const Lineage& Journal::lineage() const { return impl_->log->line().lineage(); }
Epoch Journal::epoch() const { return impl_->log->line().epoch(); }
const crypto::PublicKey& Journal::public_key() const { return impl_->sealer->keys().public_key(); }
const Error* Journal::failed() const { return impl_->log->failed(); }
bool Journal::idle() const {
  return impl_->log->idle() && impl_->merger->idle() && impl_->reader->in_flight() == 0 &&
         !impl_->published->busy();
}

JournalStatus Journal::status() const {
  const RecordLog& log = *impl_->log;
  return {.accepted = log.line().last(),
          .appended = log.appended().end.position.sequence,
          .durable = log.durable().end.position.sequence,
          .unsynced_bytes = log.unsynced_bytes(),
          .oldest_unsynced_time = log.oldest_unsynced_time(),
          .segments = log.closed().size(),
          .bases = log.manifest().bases.size(),
          .index_extents = impl_->index.extents(),
          .pinned_bytes = impl_->pins.held_bytes(log.closed(), impl_->clock.monotonic())};
}

}  // namespace hf::journal
