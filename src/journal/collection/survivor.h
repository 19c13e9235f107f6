// Survivor: a record in a collected file: its header, as sealed, with the units that live, and
// hashes for the others. Made and checked without the key.
//
//   0   magic "HFFU", version, zero (2)
//   8   segment (8), place (8), units (2), hashes (2), zero (4)
//   32  the record's header (192)
//   224 which units live: a bit each, least first, to a multiple of 8 bytes
//       hashes ‖ live units ‖ zeroes up to 64
//
// The header proves itself to who has the map (its digest is the leaf that the map names), the
// units and hashes to who has the header.
#pragma once

#include "journal/format/format.h"
#include "journal/units/units.h"

namespace hf::journal {

struct Survivor {
  uint64_t segment = 0;
  uint64_t place = 0;
  std::array<std::byte, kRecordHeaderSize> header{};
  LiveUnits live;
  PrunedPayload payload;

  size_t stored_size() const;
};
inline constexpr size_t kSurvivorFixedSize = 32 + kRecordHeaderSize;

// What stands before its hashes: enough to find its units, and the next survivor.
struct SurvivorHead {
  uint64_t segment = 0;
  uint64_t place = 0;
  std::array<std::byte, kRecordHeaderSize> header{};
  RecordHeader record;  // the same, decoded: a write
  LiveUnits live;
  size_t hashes = 0;
  size_t units_at = 0;     // bytes from its first
  size_t stored_size = 0;  // of the whole survivor
};
inline constexpr size_t kSurvivorHeadMax = kSurvivorFixedSize + (kUnitsMax + 63) / 64 * 8;
// `from` may end where the head does. The units are not looked at.
Result<SurvivorHead> decode_survivor_head(ByteSpan from);

Bytes encode_survivor(const Survivor& survivor);
// The survivor that begins here, checked against its own header. Where it ends: stored_size().
Result<Survivor> decode_survivor(ByteSpan from);

}  // namespace hf::journal
