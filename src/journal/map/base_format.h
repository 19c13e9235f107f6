// Base files: what the merge writes. Sealed runs of up to 1 MiB, sorted by (volume, offset), under
// a key of the file's own, and a signed footer.
//
//   header (4 KiB) ‖ runs, each from a multiple of 64 ‖ table ‖ footer
//
// The table lists zeroed ranges first (they hide what older bases hold), then the runs; it has the
// entries of an extent table, with the run's number for the sequence. A run's additional data is
// its table entry; nonce = run number (64 bit, from 1) ‖ unit (32 bit).
//
// A base holds exactly what the records after `since` up to `through` left behind, so bases whose
// ends join, applied in order, are the state at the last one's `through`. The signed footer covers
// every byte before it and the lineage, so that a replica that has no key can take bases (seed.h).
// Version 1, which promised none of this, was never released and is refused.
#pragma once

#include "journal/format/manifest.h"
#include "journal/map/index.h"
#include "journal/seal/keys.h"

namespace hf::journal {

inline constexpr uint32_t kBaseMagic = 0x42464648;  // "HFFB"
inline constexpr size_t kBaseHeaderSize = 4096;
struct BaseHeader {
  VmId vm;
  KeyVersion key_version;
  std::array<std::byte, 32> salt{};  // of the base run key; random for each file
  bool operator==(const BaseHeader&) const = default;
};
void encode_base_header(const BaseHeader& header, MutableByteSpan to);  // kBaseHeaderSize
Result<BaseHeader> decode_base_header(ByteSpan from);

struct BaseFooter {
  BaseHeader header;  // repeated: the signature covers it here
  uint64_t table_offset = 0;
  uint64_t table_entries = 0;
  Digest table_digest;
  Horizon through;        // where the line stood at the end of what was merged
  LineEnd since;          // and at its beginning; zeroes: it holds everything up to `through`
  Digest lineage_digest;  // SHA-256 of encode_lineage() of the incarnations begun up to `through`
  Digest data_digest;     // SHA-256 of the file's bytes before the table
  bool operator==(const BaseFooter&) const = default;
};
inline constexpr size_t kBaseFooterBodySize = 360;
inline constexpr size_t kBaseFooterSize = kBaseFooterBodySize + crypto::kSignatureSize;
inline constexpr std::string_view kBaseFooterLabel = "holdfast base footer v2";
void encode_base_footer(const BaseFooter& footer, const crypto::SigningKey& key,
                        std::span<std::byte, kBaseFooterSize> to);
// kCorrupt if a field, kWrongKey never: a wrong signature is kCorrupt too.
Result<BaseFooter> decode_base_footer(ByteSpan from, const crypto::PublicKey& key);

using RunAad = std::array<std::byte, kExtentEntrySize>;
RunAad run_aad(VolumeId volume, const Place& place);

}  // namespace hf::journal
