#include "journal/format/format.h"

#include "base/crc32c.h"
#include "journal/format/wire.h"

namespace hf::journal {

namespace {

constexpr size_t kCrcAt = offsetof(RecordHeaderLayout, crc32c);
constexpr uint32_t kIncarnationMagic = 0x49464648;  // "HFFI"
constexpr uint32_t kCloseMagic = 0x43464648;        // "HFFC"
constexpr uint16_t kBodyVersion = 1;
constexpr size_t kSegmentCrcAt = 112;
constexpr size_t kFooterCrcAt = 64;

bool known_kind(uint8_t kind) {
  return kind >= static_cast<uint8_t>(RecordKind::kWrite) &&
         kind <= static_cast<uint8_t>(RecordKind::kHandover);
}

// What a kind's lengths may be; `nullptr` if they are right.
const char* check_lengths(const RecordHeader& header) {
  if (header.offset > kNumberMax || header.length > kNumberMax - header.offset) {
    return "record extent passes the end of any volume";
  }
  switch (header.kind) {
    case RecordKind::kWrite:
    case RecordKind::kMarker:
    case RecordKind::kHandover:
      if (header.length > kRecordDataMax) return "record is longer than the limit";
      if (header.kind == RecordKind::kWrite && header.length == 0) return "write record is empty";
      if (header.payload_length != sealed_size(header.offset, header.length)) {
        return "record payload length does not fit its length";
      }
      return nullptr;
    case RecordKind::kZero:
    case RecordKind::kFlush:
      if ((header.kind == RecordKind::kZero) != (header.length != 0)) {
        return "record length does not fit its kind";
      }
      if (header.payload_length != crypto::kTagSize) return "record payload is not one tag";
      return nullptr;
    case RecordKind::kIncarnation:
      return header.payload_length == kIncarnationPayloadSize && header.length == 0
                 ? nullptr
                 : "incarnation record has another length";
    case RecordKind::kClose:
      return header.payload_length == kClosePayloadSize && header.length == 0
                 ? nullptr
                 : "close record has another length";
  }
  return "record kind is unknown";
}

}  // namespace

const char* to_string(RecordKind kind) {
  switch (kind) {
    case RecordKind::kWrite:
      return "write";
    case RecordKind::kZero:
      return "zero";
    case RecordKind::kFlush:
      return "flush";
    case RecordKind::kMarker:
      return "marker";
    case RecordKind::kIncarnation:
      return "incarnation";
    case RecordKind::kClose:
      return "close";
    case RecordKind::kHandover:
      return "handover";
  }
  return "unknown";
}

size_t RecordHeader::stored_size() const {
  return align_record(kRecordHeaderSize + payload_length);
}

void encode_aad(const RecordHeader& header, RecordHeaderBytes to) {
  FieldWriter out(to);
  out.number(kRecordMagic);
  out.number(kRecordVersion);
  out.number(static_cast<uint8_t>(header.kind));
  out.number(header.flags);
  out.number(header.sequence.value);
  out.bytes(header.vm.span());
  out.bytes(header.incarnation.span());
  out.number(header.volume.value);
  out.number(header.key_version.value);
  out.number(header.offset);
  out.number(header.length);
  out.number(header.payload_length);
  out.zeroes(4);  // compression: none; reserved
  out.number(header.time.value);
  out.zeroes_to(kRecordAadSize);
}

void encode_header(const RecordHeader& header, RecordHeaderBytes to) {
  HF_ASSERT(check_lengths(header) == nullptr);
  HF_ASSERT(header.sequence.value <= kNumberMax && header.time.value <= kNumberMax);
  HF_ASSERT((header.flags & ~kFlagsKnown) == 0);
  encode_aad(header, to);
  FieldWriter out(to.subspan<kRecordAadSize>());
  out.bytes(header.payload_digest.span());
  out.bytes(header.prev_chain.span());
  out.number(crc32c(to.first<kCrcAt>()));
  out.zeroes_to(kRecordHeaderSize - kRecordAadSize);
}

Result<RecordHeader> decode_header(ByteSpan from) {
  if (from.size() < kRecordHeaderSize) return corrupt("record header is cut short");
  FieldReader in(from.first(kRecordHeaderSize));
  if (in.number<uint32_t>() != kRecordMagic) return corrupt("no record starts here");
  if (load_le<uint32_t>(from.data() + kCrcAt) != crc32c(from.first(kCrcAt))) {
    return corrupt("record header's checksum differs");
  }
  if (in.number<uint16_t>() != kRecordVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "record header of another version"};
  }
  RecordHeader header;
  const auto kind = in.number<uint8_t>();
  if (!known_kind(kind)) return corrupt("record kind is unknown");
  header.kind = static_cast<RecordKind>(kind);
  header.flags = in.number<uint8_t>();
  header.sequence = in.counted<Sequence>();
  header.vm = in.id<VmId>();
  header.incarnation = in.id<IncarnationId>();
  header.volume = VolumeId(in.number<uint32_t>());
  header.key_version = KeyVersion(in.number<uint32_t>());
  header.offset = in.number<uint64_t>();
  header.length = in.number<uint64_t>();
  header.payload_length = in.number<uint32_t>();
  if (!in.zeroes(4)) return corrupt("record is compressed or its reserved bytes are set");
  header.time = in.counted<Micros>();
  if (!in.zeroes_to(kRecordAadSize)) return corrupt("record's reserved bytes are set");
  header.payload_digest = in.id<Digest>();
  header.prev_chain = in.id<Digest>();
  in.number<uint32_t>();
  if (!in.zeroes_to(kRecordHeaderSize)) return corrupt("record's reserved bytes are set");
  if (!in.in_range()) return corrupt(std::string("record header: ") + kOutOfRange);
  if ((header.flags & ~kFlagsKnown) != 0) return corrupt("record has unknown flags");
  if (const char* wrong = check_lengths(header)) return corrupt(wrong);
  return header;
}

Digest header_digest(ConstRecordHeaderBytes header) { return crypto::sha256(header); }

Digest next_chain(const Digest& previous, const Digest& header_digest) {
  return crypto::sha256(previous.span(), header_digest.span());
}

void encode_incarnation(const IncarnationBody& body,
                        std::span<std::byte, kIncarnationBodySize> to) {
  FieldWriter out(to);
  out.number(kIncarnationMagic);
  out.number(kBodyVersion);
  out.zeroes(2);
  out.bytes(body.salt.span());
  out.number(body.epoch.value);
  out.bytes(body.site.span());
  out.bytes(body.parent.incarnation.span());
  out.number(body.parent.sequence.value);
  out.bytes(body.parent_chain.span());
  out.zeroes_to(kIncarnationBodySize);
}

Result<IncarnationBody> decode_incarnation(ByteSpan from) {
  if (from.size() < kIncarnationBodySize) return corrupt("incarnation record is cut short");
  FieldReader in(from.first(kIncarnationBodySize));
  if (in.number<uint32_t>() != kIncarnationMagic || in.number<uint16_t>() != kBodyVersion ||
      !in.zeroes(2)) {
    return corrupt("not an incarnation record of this version");
  }
  IncarnationBody body;
  body.salt = in.id<IncarnationId>();
  body.epoch = in.counted<Epoch>();
  body.site = in.id<SiteId>();
  body.parent.incarnation = in.id<IncarnationId>();
  body.parent.sequence = in.counted<Sequence>();
  body.parent_chain = in.id<Digest>();
  if (!in.zeroes_to(kIncarnationBodySize)) return corrupt("incarnation's reserved bytes are set");
  if (!in.in_range()) return corrupt(std::string("incarnation: ") + kOutOfRange);
  if (body.salt.is_zero()) return corrupt("incarnation's salt is zero");
  return body;
}

void encode_close(const CloseBody& body, std::span<std::byte, kCloseBodySize> to) {
  FieldWriter out(to);
  out.number(kCloseMagic);
  out.number(kBodyVersion);
  out.zeroes(2);
  out.number(body.epoch.value);
  out.number(body.record_count);
  out.number(body.first_sequence.value);
  out.number(body.last_sequence.value);
  out.number(body.table_entries);
  out.bytes(body.merkle_root.span());
  out.bytes(body.table_digest.span());
  out.bytes(body.previous_close.span());
  out.bytes(body.chain.span());
  HF_ASSERT(out.at() == kCloseBodySize);
}

Result<CloseBody> decode_close(ByteSpan from) {
  if (from.size() < kCloseBodySize) return corrupt("close record is cut short");
  FieldReader in(from.first(kCloseBodySize));
  if (in.number<uint32_t>() != kCloseMagic || in.number<uint16_t>() != kBodyVersion ||
      !in.zeroes(2)) {
    return corrupt("not a close record of this version");
  }
  CloseBody body;
  body.epoch = in.counted<Epoch>();
  body.record_count = in.counted();
  body.first_sequence = in.counted<Sequence>();
  body.last_sequence = in.counted<Sequence>();
  body.table_entries = in.counted();
  body.merkle_root = in.id<Digest>();
  body.table_digest = in.id<Digest>();
  body.previous_close = in.id<Digest>();
  body.chain = in.id<Digest>();
  if (!in.in_range()) return corrupt(std::string("close: ") + kOutOfRange);
  return body;
}

Bytes close_message(ByteSpan header_aad, ByteSpan body) {
  HF_ASSERT(header_aad.size() == kRecordAadSize && body.size() == kCloseBodySize);
  Bytes message(kCloseLabel.size() + header_aad.size() + body.size());
  FieldWriter out(message);
  out.bytes(as_bytes(kCloseLabel));
  out.bytes(header_aad);
  out.bytes(body);
  return message;
}

Digest close_digest(ConstRecordHeaderBytes header, ByteSpan payload) {
  HF_ASSERT(payload.size() == kClosePayloadSize);
  return crypto::sha256(header, payload);
}

void encode_extent(const ExtentEntry& entry, std::span<std::byte, kExtentEntrySize> to) {
  HF_ASSERT(entry.kind == RecordKind::kWrite || entry.kind == RecordKind::kZero);
  FieldWriter out(to);
  out.number(entry.volume.value);
  out.number(static_cast<uint8_t>(entry.kind));
  out.zeroes(3);
  out.number(entry.offset);
  out.number(entry.length);
  out.number(entry.sequence.value);
  out.number(entry.position);
  HF_ASSERT(out.at() == kExtentEntrySize);
}

Result<ExtentEntry> decode_extent(ByteSpan from) {
  if (from.size() < kExtentEntrySize) return corrupt("extent table is cut short");
  FieldReader in(from.first(kExtentEntrySize));
  ExtentEntry entry;
  entry.volume = VolumeId(in.number<uint32_t>());
  const auto kind = in.number<uint8_t>();
  if (kind != static_cast<uint8_t>(RecordKind::kWrite) &&
      kind != static_cast<uint8_t>(RecordKind::kZero)) {
    return corrupt("extent table names an unknown kind");
  }
  entry.kind = static_cast<RecordKind>(kind);
  if (!in.zeroes(3)) return corrupt("extent table's reserved bytes are set");
  entry.offset = in.counted();
  entry.length = in.counted();
  entry.sequence = in.counted<Sequence>();
  entry.position = in.counted();
  if (!in.in_range()) return corrupt(std::string("extent table: ") + kOutOfRange);
  if (entry.length == 0 || entry.length > kNumberMax - entry.offset) {
    return corrupt("extent table's extent is impossible");
  }
  if (entry.kind == RecordKind::kWrite && entry.length > kRecordDataMax) {
    return corrupt("extent table's extent is longer than a record");
  }
  if (entry.position % kRecordAlignment != 0)
    return corrupt("extent table's position is not aligned");
  return entry;
}

void encode_segment_header(const SegmentHeader& header, MutableByteSpan to) {
  HF_ASSERT(to.size() == kSegmentHeaderSize);
  FieldWriter out(to);
  out.number(kSegmentMagic);
  out.number(kBodyVersion);
  out.zeroes(2);
  out.number(header.number);
  out.bytes(header.vm.span());
  out.number(header.first_sequence.value);
  out.zeroes(8);
  out.bytes(header.prev_chain.span());
  out.bytes(header.previous_close.span());
  HF_ASSERT(out.at() == kSegmentCrcAt);
  out.number(crc32c(to.first(kSegmentCrcAt)));
  out.zeroes_to(kSegmentHeaderSize);
}

Result<SegmentHeader> decode_segment_header(ByteSpan from) {
  if (from.size() < kSegmentHeaderSize) return corrupt("segment header is cut short");
  FieldReader in(from.first(kSegmentHeaderSize));
  if (in.number<uint32_t>() != kSegmentMagic) return corrupt("not a segment file");
  if (load_le<uint32_t>(from.data() + kSegmentCrcAt) != crc32c(from.first(kSegmentCrcAt))) {
    return corrupt("segment header's checksum differs");
  }
  if (in.number<uint16_t>() != kBodyVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "segment of another version"};
  }
  SegmentHeader header;
  bool zero = in.zeroes(2);
  header.number = in.counted();
  header.vm = in.id<VmId>();
  header.first_sequence = in.counted<Sequence>();
  zero = in.zeroes(8) && zero;
  header.prev_chain = in.id<Digest>();
  header.previous_close = in.id<Digest>();
  in.number<uint32_t>();
  if (!in.zeroes_to(kSegmentHeaderSize) || !zero) {
    return corrupt("segment header's reserved bytes are set");
  }
  if (!in.in_range()) return corrupt(std::string("segment header: ") + kOutOfRange);
  return header;
}

void encode_footer(const SegmentFooter& footer, std::span<std::byte, kSegmentFooterSize> to) {
  FieldWriter out(to);
  out.number(kFooterMagic);
  out.number(kBodyVersion);
  out.zeroes(2);
  out.number(footer.close_offset);
  out.number(footer.table_offset);
  out.number(footer.table_entries);
  out.bytes(footer.close_digest.span());
  HF_ASSERT(out.at() == kFooterCrcAt);
  out.number(crc32c(to.first<kFooterCrcAt>()));
  out.zeroes_to(kSegmentFooterSize);
}

Result<SegmentFooter> decode_footer(ByteSpan from) {
  if (from.size() < kSegmentFooterSize) return corrupt("segment footer is cut short");
  FieldReader in(from.first(kSegmentFooterSize));
  if (in.number<uint32_t>() != kFooterMagic || in.number<uint16_t>() != kBodyVersion ||
      load_le<uint32_t>(from.data() + kFooterCrcAt) != crc32c(from.first(kFooterCrcAt))) {
    return corrupt("segment footer differs");
  }
  SegmentFooter footer;
  const bool zero = in.zeroes(2);
  footer.close_offset = in.counted();
  footer.table_offset = in.counted();
  footer.table_entries = in.counted();
  footer.close_digest = in.id<Digest>();
  in.number<uint32_t>();
  if (!in.zeroes_to(kSegmentFooterSize) || !zero || !in.in_range()) {
    return corrupt("segment footer differs");
  }
  return footer;
}

}  // namespace hf::journal
