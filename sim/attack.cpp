#include "sim/attack.h"

namespace hf::sim {

using replication::FrameType;

void Attack::end() {
  armed_ = false;
  chains_.clear();
  false_close_.reset();
}

Bytes Attack::to_replica(Bytes bytes) {
  if (!armed_) return bytes;
  const Result<replication::Frame> frame = replication::decode_frame(bytes);
  if (!frame.ok() || frame->type != FrameType::kRecords) return bytes;
  return alter_records(*frame);
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
      frame.vm, replication::Records{.home_durable = records->home_durable, .records = copy});
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

Bytes Attack::to_home(Bytes bytes) {
  if (chains_.empty()) return bytes;
  const Result<replication::Frame> frame = replication::decode_frame(bytes);
  if (!frame.ok()) return bytes;
  if (frame->type == FrameType::kAck) {
    replication::Ack ack = *replication::decode_ack(frame->body);
    ack.durable.chain = truth_for(ack.durable);
    return replication::encode(frame->vm, ack);
  }
  if (frame->type == FrameType::kHelloReply) {
    replication::HelloReply reply = *replication::decode_hello_reply(frame->body);
    reply.durable.chain = truth_for(reply.durable);
    return replication::encode(frame->vm, reply);
  }
  return bytes;
}

}  // namespace hf::sim
