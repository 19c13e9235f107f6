#include "journal/collection/survivor.h"

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr uint32_t kMagic = 0x55464648;  // "HFFU"
constexpr uint16_t kVersion = 1;
constexpr size_t kDigestSize = 32;
constexpr size_t bitmap_size(size_t units) { return (units + 63) / 64 * 8; }
}  // namespace

size_t Survivor::stored_size() const {
  return align_record(kSurvivorFixedSize + bitmap_size(live.size()) +
                      payload.hashes.size() * kDigestSize + payload.units.size());
}

Bytes encode_survivor(const Survivor& survivor) {
  Bytes bytes(survivor.stored_size());
  FieldWriter out(bytes);
  out.number(kMagic);
  out.number(kVersion);
  out.zeroes(2);
  out.number(survivor.segment);
  out.number(survivor.place);
  out.number(static_cast<uint16_t>(survivor.live.size()));
  out.number(static_cast<uint16_t>(survivor.payload.hashes.size()));
  out.zeroes(4);
  out.bytes(survivor.header);
  const size_t bitmap = out.at();
  out.zeroes(bitmap_size(survivor.live.size()));
  for (size_t i = 0; i < survivor.live.size(); ++i) {
    if (survivor.live[i]) bytes[bitmap + i / 8] |= std::byte{1} << (i % 8);
  }
  for (const Digest& hash : survivor.payload.hashes) out.bytes(hash.span());
  out.bytes(survivor.payload.units);
  out.zeroes_to(bytes.size());
  return bytes;
}

Result<SurvivorHead> decode_survivor_head(ByteSpan from) {
  if (from.size() < kSurvivorFixedSize) return corrupt("a survivor is cut short");
  FieldReader in(from);
  if (in.number<uint32_t>() != kMagic) return corrupt("not a survivor");
  if (in.number<uint16_t>() != kVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a survivor of another version"};
  }
  bool zero = in.zeroes(2);
  SurvivorHead head;
  head.segment = in.counted();
  head.place = in.counted();
  const auto units = in.number<uint16_t>();
  head.hashes = in.number<uint16_t>();
  zero = in.zeroes(4) && zero;
  std::ranges::copy(in.bytes(kRecordHeaderSize), head.header.begin());
  head.record = TRY(decode_header(head.header));
  if (!zero || !in.in_range() || head.record.kind != RecordKind::kWrite) {
    return corrupt("a survivor: a field is not one");
  }
  const UnitLayout layout(head.record.offset, head.record.length);
  if (units != layout.count() || head.hashes > units || in.left() < bitmap_size(units)) {
    return corrupt("a survivor's counts do not fit its header");
  }
  const ByteSpan bits = in.bytes(bitmap_size(units));
  size_t stored = 0;
  for (size_t i = 0; i < bits.size() * 8; ++i) {
    const bool live = (bits[i / 8] & (std::byte{1} << (i % 8))) != std::byte{0};
    if (i >= units && live) return corrupt("a survivor: a field is not one");
    if (i >= units) continue;
    head.live.push_back(live);
    if (live) stored += layout.unit(i).stored_length();
  }
  head.units_at = in.at() + head.hashes * kDigestSize;
  head.stored_size = align_record(head.units_at + stored);
  return head;
}

Result<Survivor> decode_survivor(ByteSpan from) {
  SurvivorHead head = TRY(decode_survivor_head(from));
  if (from.size() < head.stored_size) return corrupt("a survivor is cut short");
  const UnitLayout layout(head.record.offset, head.record.length);
  Survivor survivor{.segment = head.segment, .place = head.place, .header = head.header};
  survivor.live = std::move(head.live);
  FieldReader in(from.first(head.stored_size));
  in.bytes(head.units_at - head.hashes * kDigestSize);
  for (size_t i = 0; i < head.hashes; ++i) survivor.payload.hashes.push_back(in.id<Digest>());
  size_t stored = 0;
  for (size_t i = 0; i < layout.count(); ++i) {
    if (survivor.live[i]) stored += layout.unit(i).stored_length();
  }
  const ByteSpan units = in.bytes(stored);
  survivor.payload.units.assign(units.begin(), units.end());
  if (!in.zeroes_to(head.stored_size)) return corrupt("a survivor: a field is not one");
  TRY(check_pruned(layout, survivor.live, survivor.payload, head.record.payload_digest));
  return survivor;
}

}  // namespace hf::journal
