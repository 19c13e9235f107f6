// MANIFEST: which files make up a journal, and its lineage. One small file, replaced whole by an
// atomic rename, so that a crash leaves the old one or the new one.
//
//   header ‖ lineage entries ‖ segment entries ‖ base entries ‖ SHA-256 of all before
//
// It finds torn and flipped bytes itself; that it is authentic follows from the closes, which are
// signed and name each other, and from the chain.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/storage.h"
#include "journal/format/lineage.h"

namespace hf::journal {

inline constexpr std::string_view kManifestName = "MANIFEST";
inline constexpr std::string_view kManifestNewName = "MANIFEST.new";

// What is known of a closed segment without reading it.
struct ClosedSegment {
  Sequence first;
  Sequence last;              // of the close record
  IncarnationId incarnation;  // of the close record
  uint64_t close_offset = 0;  // in the file
  uint64_t table_entries = 0;
  Micros time;  // of the close record
  Digest close_digest;
  Digest chain;  // after the close record
  bool operator==(const ClosedSegment&) const = default;
};

struct SegmentEntry {
  uint64_t number = 0;
  // Without it the segment is open, or ready to be the next; recovery scans.
  std::optional<ClosedSegment> closed;
  bool operator==(const SegmentEntry&) const = default;
};

struct BaseEntry {
  uint64_t number = 0;
  uint64_t table_offset = 0;
  uint64_t table_entries = 0;
  Digest footer_digest;
  bool operator==(const BaseEntry&) const = default;
};

// Where the segments begin: what came before was merged into bases.
struct Horizon {
  LineEnd end;
  Micros time;
  Digest close;  // of the last merged segment
  bool operator==(const Horizon&) const = default;
};

struct Manifest {
  uint64_t generation = 0;  // counts stores
  VmId vm;
  crypto::PublicKey public_key{};
  uint64_t next_file_number = 1;
  Horizon horizon;
  Lineage lineage;  // of what is durable and closed; younger incarnations are found by the scan
  std::vector<SegmentEntry> segments;  // in the order of their records: closed, open, next
  std::vector<BaseEntry> bases;        // oldest first
  bool operator==(const Manifest&) const = default;
};

// The entries that begin at or before `last`, as they stand in MANIFEST: kLineageEntrySize each.
inline constexpr size_t kLineageEntrySize = kIncarnationBodySize + 16;
Bytes encode_lineage(const Lineage& lineage, Sequence last);
// Whole entries, in order of their first sequence; kCorrupt else.
Result<Lineage> decode_lineage(ByteSpan from);

Bytes encode_manifest(const Manifest& manifest);
Result<Manifest> decode_manifest(ByteSpan from);

Result<Manifest> load_manifest(Storage& storage);                   // kNotFound: no journal here
Status store_manifest(Storage& storage, const Manifest& manifest);  // durable when it returns

// What a replica is being given, until it is whole: nothing counts on such a file, and the next
// opening removes it.
inline constexpr std::string_view kSeedNamePrefix = "seed-";

std::string segment_name(uint64_t number);
std::string base_name(uint64_t number);

}  // namespace hf::journal
