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

Result<Survivor> decode_survivor(ByteSpan from) {
  if (from.size() < kSurvivorFixedSize) return corrupt("a survivor is cut short");
  FieldReader in(from);
  if (in.number<uint32_t>() != kMagic) return corrupt("not a survivor");
  if (in.number<uint16_t>() != kVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a survivor of another version"};
  }
  bool zero = in.zeroes(2);
  Survivor survivor;
  survivor.segment = in.counted();
  survivor.place = in.counted();
  const auto units = in.number<uint16_t>();
  const auto hashes = in.number<uint16_t>();
  zero = in.zeroes(4) && zero;
  std::ranges::copy(in.bytes(kRecordHeaderSize), survivor.header.begin());
  const RecordHeader header = TRY(decode_header(survivor.header));
  if (!zero || !in.in_range() || header.kind != RecordKind::kWrite || header.length == 0 ||
      header.length > kRecordDataMax) {
    return corrupt("a survivor: a field is not one");
  }
  const UnitLayout layout(header.offset, header.length);
  if (units != layout.count() || hashes > units ||
      in.left() < bitmap_size(units) + size_t{hashes} * kDigestSize) {
    return corrupt("a survivor's counts do not fit its header");
  }
  const ByteSpan bits = in.bytes(bitmap_size(units));
  for (size_t i = 0; i < bits.size() * 8; ++i) {
    const bool live = (bits[i / 8] & (std::byte{1} << (i % 8))) != std::byte{0};
    if (i < units) {
      survivor.live.push_back(live);
    } else if (live) {
      return corrupt("a survivor: a field is not one");
    }
  }
  for (uint16_t i = 0; i < hashes; ++i) survivor.payload.hashes.push_back(in.id<Digest>());
  size_t stored = 0;
  for (size_t i = 0; i < units; ++i) {
    if (survivor.live[i]) stored += layout.unit(i).stored_length();
  }
  if (in.left() < stored) return corrupt("a survivor is cut short");
  const ByteSpan bytes = in.bytes(stored);
  survivor.payload.units.assign(bytes.begin(), bytes.end());
  TRY(check_pruned(layout, survivor.live, survivor.payload, header.payload_digest));
  return survivor;
}

}  // namespace hf::journal
