#include "sim/attack.h"

namespace hf::sim {

using replication::FrameType;

namespace {
constexpr size_t kHeardMax = 256;
constexpr uint64_t kNoticedMax = 4;
}  // namespace

Attack::Attack(SimRng rng, bool unchecked)
    : rng_(std::move(rng)),
      unchecked_(unchecked),
      kind_(unchecked ? Kind::kAlter
                      : std::array{Kind::kAlter, Kind::kAlter, Kind::kReflect,
                                   Kind::kReplay}[rng_.below(4)]) {}

void Attack::end() {
  armed_ = false;
  chains_.clear();
  false_close_.reset();
  forged_.reset();
}

void Attack::noticed() {
  if (armed_ && ++noticed_ >= kNoticedMax) end();
}

bool Attack::is_lie(const journal::LineEnd& end) const {
  const auto found = chains_.find(end.position.sequence);
  return found != chains_.end() && found->second.lie == end.chain;
}

Bytes Attack::to_replica(Bytes bytes) {
  if (!armed_) return bytes;
  const Result<replication::Frame> frame = replication::decode_frame(bytes);
  if (!frame.ok() || frame->type != FrameType::kRecords) return bytes;
  if (kind_ == Kind::kAlter) return alter_records(*frame);
  swallow(*frame);
  return forged_ ? Bytes() : bytes;
}

// The end of the batch, as home takes it to be, or an earlier session's word for one within it.
void Attack::swallow(const replication::Frame& frame) {
  const auto records = *replication::decode_records(frame.body);
  std::optional<Sequence> first;
  journal::LineEnd end;
  for (ByteSpan left = records.records; !left.empty();) {
    const journal::RecordHeader header = *journal::decode_header(left);
    const auto raw = left.first<journal::kRecordHeaderSize>();
    if (!first) first = header.sequence;
    end = {.position = {.incarnation = header.incarnation, .sequence = header.sequence},
           .chain = journal::next_chain(header.prev_chain, journal::header_digest(raw))};
    left = left.subspan(header.stored_size());
  }
  if (kind_ == Kind::kReflect) {
    forged_ = replication::encode(frame.vm, replication::Ack{.durable = end, .mac = records.mac});
  } else {
    forged_ = heard_before(*first, end.position.sequence);
  }
}

// Of another session at this session's place: there the counter fits.
std::optional<Bytes> Attack::heard_before(Sequence least, Sequence most) const {
  for (auto heard = heard_.rbegin(); heard != heard_.rend(); ++heard) {
    if (heard->connection == listening_ || heard->place != place_) continue;
    if (heard->durable >= least && heard->durable <= most) return heard->frame;
  }
  return std::nullopt;
}

Bytes Attack::replayed(ConnectionId connection, const replication::Frame& frame, Bytes bytes) {
  const bool begin = frame.type == FrameType::kBegin;
  if (!begin && frame.type != FrameType::kAck) return bytes;
  if (connection != listening_) place_ = 0;
  listening_ = connection;
  const Sequence durable = begin ? replication::decode_begin(frame.body)->durable.position.sequence
                                 : replication::decode_ack(frame.body)->durable.position.sequence;
  // The replica lost what it had: home is to hear that it has it still.
  std::optional<Bytes> instead;
  if (armed_ && begin) instead = heard_before(durable.next(), Sequence(kNumberMax));
  if (heard_.size() == kHeardMax) heard_.erase(heard_.begin());
  heard_.push_back(
      {.connection = connection, .place = place_++, .frame = bytes, .durable = durable});
  return instead ? *instead : bytes;
}

Bytes Attack::alter_records(const replication::Frame& frame) {
  const Result<replication::Records> records = replication::decode_records(frame.body);
  HF_ASSERT(records.ok());
  Bytes copy(records->records.begin(), records->records.end());
  for (MutableByteSpan left = copy; !left.empty();) {
    Result<journal::RecordHeader> header = journal::decode_header(left);
    HF_ASSERT(header.ok());
    const MutableByteSpan record = left.first(header->stored_size());
    const auto raw =
        std::span<std::byte, journal::kRecordHeaderSize>(record.data(), journal::kRecordHeaderSize);
    left = left.subspan(record.size());
    const Digest truth = journal::next_chain(header->prev_chain, journal::header_digest(raw));
    const auto before = chains_.find(Sequence(header->sequence.value - 1));
    if (before == chains_.end()) {
      if (!chains_.empty() || !alter_payload(*header, record)) continue;
    } else {
      header->prev_chain = before->second.lie;
    }
    journal::encode_header(*header, raw);
    chains_[header->sequence] = {
        .truth = truth,
        .lie = journal::next_chain(header->prev_chain, journal::header_digest(raw))};
    if (header->kind == journal::RecordKind::kClose && !false_close_)
      false_close_ = header->sequence;
  }
  return replication::encode(
      frame.vm, replication::Records{
                    .home_durable = records->home_durable, .records = copy, .mac = records->mac});
}

bool Attack::alter_payload(journal::RecordHeader& header, MutableByteSpan record) {
  if (header.kind != journal::RecordKind::kWrite || header.payload_length == 0) return false;
  const MutableByteSpan payload = record.subspan(journal::kRecordHeaderSize, header.payload_length);
  payload[rng_.below(payload.size())] ^= std::byte{1};
  header.payload_digest = crypto::sha256(payload);
  return true;
}

Digest Attack::truth_for(const journal::LineEnd& end) const {
  const auto found = chains_.find(end.position.sequence);
  return found != chains_.end() && found->second.lie == end.chain ? found->second.truth : end.chain;
}

Bytes Attack::to_home(ConnectionId connection, Bytes bytes) {
  const Result<replication::Frame> frame = replication::decode_frame(bytes);
  if (!frame.ok()) return bytes;
  if (kind_ == Kind::kReplay) return replayed(connection, *frame, std::move(bytes));
  return chains_.empty() ? bytes : mended_answer(*frame, std::move(bytes));
}

Bytes Attack::mended_answer(const replication::Frame& frame, Bytes bytes) const {
  if (frame.type == FrameType::kAck) {
    replication::Ack ack = *replication::decode_ack(frame.body);
    ack.durable.chain = truth_for(ack.durable);
    return replication::encode(frame.vm, ack);
  }
  if (frame.type == FrameType::kBegin) {
    replication::Begin begin = *replication::decode_begin(frame.body);
    begin.durable.chain = truth_for(begin.durable);
    return replication::encode(frame.vm, begin);
  }
  return bytes;
}

}  // namespace hf::sim
