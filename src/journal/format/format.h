// The journal's record format: the header is the specification of its bytes
// (docs/formats/journal.md says why). Pure encode and decode, bounds-checked; no key, no I/O.
//
//   record = header (192 bytes, cleartext) ‖ payload (payload_length bytes) ‖ zeroes up to 64
//
//   0          112             144          176    180       192
//   ├─ AAD ─────┼─ payload_digest┼─ prev_chain┼─ crc ┼─ zero ──┤
//
// Every number is little-endian. The first 112 bytes are the additional data of every unit's tag.
#pragma once

#include <cstddef>
#include <optional>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"

namespace hf::journal {

inline constexpr uint32_t kRecordMagic = 0x52464648;  // "HFFR"
inline constexpr uint16_t kRecordVersion = 2;
inline constexpr size_t kRecordHeaderSize = 192;
inline constexpr size_t kRecordAadSize = 112;
inline constexpr size_t kRecordAlignment = 64;
inline constexpr size_t kUnitSize = 4096;              // plaintext bytes in a whole unit
inline constexpr size_t kRecordDataMax = 1024 * 1024;  // plaintext bytes in a record
// Of a record that begins within a block of its volume.
inline constexpr size_t kUnitsMax = kRecordDataMax / kUnitSize + 1;
inline constexpr size_t kStoredPayloadMax = kRecordDataMax + kUnitsMax * crypto::kTagSize;
inline constexpr uint64_t kSegmentBytesMax = 256ull << 20;  // of header, records and close

enum class RecordKind : uint8_t {
  kWrite = 1,        // length bytes at (volume, offset), sealed
  kZero = 2,         // length bytes at (volume, offset) read as zeroes; one tag, no data
  kFlush = 3,        // nothing but a place in the order
  kMarker = 4,       // sealed bytes that mean something to the keeper, no extent
  kIncarnation = 5,  // opens an incarnation; payload in clear, with a tag
  kClose = 6,        // ends a segment; payload in clear, signed
  kHandover = 7,     // the last record of a line that was handed over
};
const char* to_string(RecordKind kind);

inline constexpr uint8_t kFlagRequestEnd = 1;  // the last record of one guest request
inline constexpr uint8_t kFlagGroupEnd = 2;    // the last record of an atomic group
inline constexpr uint8_t kFlagsKnown = kFlagRequestEnd | kFlagGroupEnd;

// The bytes themselves. Only for offsets and sizes; code uses RecordHeader.
struct RecordHeaderLayout {
  uint8_t magic[4];
  uint8_t version[2];
  uint8_t kind;
  uint8_t flags;
  uint8_t sequence[8];
  uint8_t vm[16];
  uint8_t incarnation[32];
  uint8_t volume[4];
  uint8_t key_version[4];
  uint8_t offset[8];
  uint8_t length[8];
  uint8_t payload_length[4];
  uint8_t compression;
  uint8_t reserved0[3];
  uint8_t time_us[8];
  uint8_t reserved1[8];
  uint8_t payload_digest[32];  // of the stored payload (units.h)
  uint8_t prev_chain[32];      // chain value after the record before this one
  uint8_t crc32c[4];           // of bytes 0..175
  uint8_t reserved2[12];
};
static_assert(sizeof(RecordHeaderLayout) == kRecordHeaderSize);
static_assert(offsetof(RecordHeaderLayout, sequence) == 8);
static_assert(offsetof(RecordHeaderLayout, vm) == 16);
static_assert(offsetof(RecordHeaderLayout, incarnation) == 32);
static_assert(offsetof(RecordHeaderLayout, volume) == 64);
static_assert(offsetof(RecordHeaderLayout, offset) == 72);
static_assert(offsetof(RecordHeaderLayout, length) == 80);
static_assert(offsetof(RecordHeaderLayout, payload_length) == 88);
static_assert(offsetof(RecordHeaderLayout, compression) == 92);
static_assert(offsetof(RecordHeaderLayout, time_us) == 96);
static_assert(offsetof(RecordHeaderLayout, payload_digest) == kRecordAadSize);
static_assert(offsetof(RecordHeaderLayout, prev_chain) == 144);
static_assert(offsetof(RecordHeaderLayout, crc32c) == 176);

struct RecordHeader {
  RecordKind kind = RecordKind::kFlush;
  uint8_t flags = 0;
  Sequence sequence;
  VmId vm;
  IncarnationId incarnation;
  VolumeId volume;
  KeyVersion key_version;
  uint64_t offset = 0;          // bytes, in the volume
  uint64_t length = 0;          // bytes of the volume it covers, or of a marker's plaintext
  uint32_t payload_length = 0;  // as stored, tags or signature included
  Micros time;                  // never goes back within a lineage
  Digest payload_digest;
  Digest prev_chain;

  bool operator==(const RecordHeader&) const = default;
  // Bytes from this record's first to the next record's first.
  size_t stored_size() const;
  bool has_extent() const { return kind == RecordKind::kWrite || kind == RecordKind::kZero; }
};

constexpr size_t align_record(size_t bytes) {
  return (bytes + kRecordAlignment - 1) & ~(kRecordAlignment - 1);
}
// Units are the aligned blocks of the volume that a payload covers; without plaintext one tag.
constexpr size_t unit_count(uint64_t offset, size_t plaintext) {
  return plaintext == 0
             ? 1
             : static_cast<size_t>((offset % kUnitSize + plaintext + kUnitSize - 1) / kUnitSize);
}
// Stored bytes of a sealed payload with so much plaintext.
constexpr size_t sealed_size(uint64_t offset, size_t plaintext) {
  return plaintext + unit_count(offset, plaintext) * crypto::kTagSize;
}
inline constexpr size_t kRecordSizeMax = align_record(kRecordHeaderSize + kStoredPayloadMax);

using RecordHeaderBytes = std::span<std::byte, kRecordHeaderSize>;
using ConstRecordHeaderBytes = std::span<const std::byte, kRecordHeaderSize>;

// Writes the first 112 bytes, which a seal needs, and the whole, which needs digest and chain.
void encode_aad(const RecordHeader& header, RecordHeaderBytes to);
void encode_header(const RecordHeader& header, RecordHeaderBytes to);
// kCorrupt unless every field is one that encode_header could have written (CRC, magic, version,
// kind, lengths, zero reserved bytes). `from` may be shorter than a header: kCorrupt.
Result<RecordHeader> decode_header(ByteSpan from);

// chain_n = SHA-256(chain_(n-1) ‖ SHA-256(header_n)). The chain before the first record of a
// journal is all zeroes.
Digest header_digest(ConstRecordHeaderBytes header);
Digest next_chain(const Digest& previous, const Digest& header_digest);

// ---- Incarnation record: payload in clear ‖ GCM tag over (AAD ‖ payload) ----

struct IncarnationBody {
  IncarnationId salt;  // the incarnation itself; the salt of its record key
  Epoch epoch;
  SiteId site;
  Position parent;      // the last record it inherited; zeroes for a VM's first
  Digest parent_chain;  // chain value there
  bool operator==(const IncarnationBody&) const = default;
};
inline constexpr size_t kIncarnationBodySize = 144;
inline constexpr size_t kIncarnationPayloadSize = kIncarnationBodySize + crypto::kTagSize;
void encode_incarnation(const IncarnationBody& body, std::span<std::byte, kIncarnationBodySize> to);
Result<IncarnationBody> decode_incarnation(ByteSpan from);

// ---- Close record: payload in clear ‖ Ed25519 signature over (label ‖ AAD ‖ body) ----

struct CloseBody {
  Epoch epoch;
  uint64_t record_count = 0;  // records before the close, in its segment
  Sequence first_sequence;
  Sequence last_sequence;
  uint64_t table_entries = 0;
  Digest merkle_root;     // over the digests of the records' headers, in order
  Digest table_digest;    // SHA-256 of the extent table's bytes
  Digest previous_close;  // close_digest of the close before; zeroes for the first
  Digest chain;           // chain value after the last record covered
  bool operator==(const CloseBody&) const = default;
};
inline constexpr size_t kCloseBodySize = 176;
inline constexpr size_t kClosePayloadSize = kCloseBodySize + crypto::kSignatureSize;
inline constexpr std::string_view kCloseLabel = "holdfast journal close v1";
void encode_close(const CloseBody& body, std::span<std::byte, kCloseBodySize> to);
Result<CloseBody> decode_close(ByteSpan from);
// What is signed: label ‖ header's first 112 bytes ‖ body.
Bytes close_message(ByteSpan header_aad, ByteSpan body);
// SHA-256 over header ‖ payload of a close record.
Digest close_digest(ConstRecordHeaderBytes header, ByteSpan payload);

// ---- Extent table: one entry a write or zero record, in the records' order ----

struct ExtentEntry {
  VolumeId volume;
  RecordKind kind = RecordKind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  Sequence sequence;
  uint64_t position = 0;  // of the record, in bytes from the first record of its segment
  bool operator==(const ExtentEntry&) const = default;
};
inline constexpr size_t kExtentEntrySize = 40;
void encode_extent(const ExtentEntry& entry, std::span<std::byte, kExtentEntrySize> to);
Result<ExtentEntry> decode_extent(ByteSpan from);

// ---- Segment file: header (4 KiB) ‖ records ‖ close ‖ extent table ‖ footer ----

inline constexpr size_t kSegmentHeaderSize = 4096;
inline constexpr uint32_t kSegmentMagic = 0x53464648;  // "HFFS"
struct SegmentHeader {
  uint64_t number = 0;  // of the file, at this site only
  VmId vm;
  Sequence first_sequence;
  Digest prev_chain;      // before its first record
  Digest previous_close;  // close_digest of the segment before
  bool operator==(const SegmentHeader&) const = default;
};
void encode_segment_header(const SegmentHeader& header, MutableByteSpan to);  // kSegmentHeaderSize
Result<SegmentHeader> decode_segment_header(ByteSpan from);

inline constexpr size_t kSegmentFooterSize = 128;
inline constexpr uint32_t kFooterMagic = 0x46464648;  // "HFFF"
struct SegmentFooter {
  uint64_t close_offset = 0;  // bytes in the file
  uint64_t table_offset = 0;
  uint64_t table_entries = 0;
  Digest close_digest;
  bool operator==(const SegmentFooter&) const = default;
};
void encode_footer(const SegmentFooter& footer, std::span<std::byte, kSegmentFooterSize> to);
Result<SegmentFooter> decode_footer(ByteSpan from);

// ---- Guest state: volume 0 is a sparse byte space, one item every 4 GiB ----

inline constexpr VolumeId kGuestStateVolume{0};
inline constexpr uint64_t kItemUefiVariables = 1;  // OVMF flash bytes
inline constexpr uint64_t kItemTpmState = 2;       // one blob, one record
inline constexpr uint64_t kItemLineageNotes = 3;
constexpr uint64_t guest_item_offset(uint64_t item) { return item << 32; }

}  // namespace hf::journal
