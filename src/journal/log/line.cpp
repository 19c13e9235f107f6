#include "journal/log/line.h"

#include <fmt/format.h>

#include "journal/format/wire.h"

namespace hf::journal {

void SegmentSummary::start(Sequence first) {
  tree_.clear();
  table_.clear();
  first_ = first;
}

void SegmentSummary::add(const RecordHeader& header, const Digest& header_digest,
                         uint64_t position) {
  HF_ASSERT(header.kind != RecordKind::kClose);
  HF_ASSERT(header.sequence.value == first_.value + records());
  tree_.add(header_digest);
  if (!header.has_extent()) return;
  std::array<std::byte, kExtentEntrySize> entry;
  encode_extent({.volume = header.volume,
                 .kind = header.kind,
                 .offset = header.offset,
                 .length = header.length,
                 .sequence = header.sequence,
                 .position = position},
                entry);
  table_.insert(table_.end(), entry.begin(), entry.end());
}

CloseBody SegmentSummary::close_body(Epoch epoch, const LineEnd& end,
                                     const Digest& previous_close) const {
  HF_ASSERT(records() > 0);
  HF_ASSERT(end.position.sequence.value + 1 == first_.value + records());
  return {.epoch = epoch,
          .record_count = records(),
          .first_sequence = first_,
          .last_sequence = end.position.sequence,
          .table_entries = table_entries(),
          .merkle_root = tree_.root(),
          .table_digest = crypto::sha256(table_),
          .previous_close = previous_close,
          .chain = end.chain};
}

Status Line::check(const RecordHeader& header, ByteSpan payload, const Faults& faults) const {
  HF_ASSERT(payload.size() == header.payload_length);
  if (header.vm != vm_) return corrupt("record of another VM");
  if (header.sequence != last().next()) {
    return corrupt(
        fmt::format("record {} where {} follows", header.sequence.value, last().value + 1));
  }
  if (header.prev_chain != end_.chain) {
    return corrupt(fmt::format("record {}: chain differs", header.sequence.value));
  }
  if (header.time < time_) {
    return corrupt(fmt::format("record {}: time goes back", header.sequence.value));
  }
  if (header.kind == RecordKind::kIncarnation) return check_incarnation(header, payload, faults);
  if (header.incarnation != end_.position.incarnation || header.incarnation.is_zero()) {
    return corrupt(fmt::format("record {}: not of the open incarnation", header.sequence.value));
  }
  return {};
}

Status Line::check_incarnation(const RecordHeader& header, ByteSpan payload,
                               const Faults& faults) const {
  const IncarnationBody body = TRY(decode_incarnation(payload));
  if (body.salt != header.incarnation)
    return corrupt("incarnation record names another incarnation");
  if (body.parent != end_.position || body.parent_chain != end_.chain) {
    return corrupt("incarnation record names another parent");
  }
  // Recovery may know the lineage ahead of the records it reads: they must agree.
  const LineageEntry* before = incarnation_at(lineage_, header.sequence);
  if (before != nullptr && before->first == header.sequence) {
    if (before->body != body) {
      return corrupt("incarnation record differs from the lineage in the manifest");
    }
    before = before == lineage_.data() ? nullptr : before - 1;
  }
  if (before == nullptr) return {};
  const bool same_site = before->body.site == body.site;
  const bool reused = body.epoch == before->body.epoch && !same_site && !faults.epoch_not_raised;
  if (body.epoch < before->body.epoch || reused) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = fmt::format("incarnation record has epoch {} after epoch {}",
                                      body.epoch.value, before->body.epoch.value)};
  }
  return {};
}

void Line::advance(const RecordHeader& header, const Digest& header_digest, ByteSpan payload) {
  HF_ASSERT(header.sequence == last().next());
  HF_ASSERT(header.prev_chain == end_.chain);
  HF_ASSERT(header.time >= time_);
  end_.position = {.incarnation = header.incarnation, .sequence = header.sequence};
  end_.chain = next_chain(end_.chain, header_digest);
  time_ = header.time;
  if (header.kind != RecordKind::kIncarnation) return;
  if (!lineage_.empty() && lineage_.back().first >= header.sequence) return;
  auto body = decode_incarnation(payload);
  HF_ASSERT(body.ok());
  lineage_.push_back({.body = *body, .first = header.sequence, .time = header.time});
}

Epoch Line::open_epoch() const {
  const LineageEntry* entry = incarnation_at(lineage_, last());
  return entry == nullptr ? Epoch{} : entry->body.epoch;
}

void Line::jump(const LineEnd& end, Micros time) {
  HF_ASSERT(end.position.sequence > last() || last().value == 0);
  HF_ASSERT(time >= time_);
  end_ = end;
  time_ = time;
}

}  // namespace hf::journal
