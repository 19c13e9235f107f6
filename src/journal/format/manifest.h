// MANIFEST: which files make up a journal, and its lineage, as a log of edits.
//
//   snapshot ‖ edit ‖ edit ‖ …       each a store: numbered, and naming by digest the store before
//
//   snapshot = header ‖ lineage ‖ segments ‖ bases ‖ kept files ‖ points ‖ SHA-256 of all before
//   edit     = header ‖ horizon, if it moved ‖ lineage, segments, bases that are new
//              ‖ kept files and points that go, that are new ‖ SHA-256 of all before
//
// A snapshot replaces the file by an atomic rename; an edit is appended and synced before anything
// relies on it. So a crash leaves one edit at most that is not whole, the last, and nothing relied
// on it: it is cut. Anything else that is not whole is damage. Edits that are cut off whole leave
// an older state; recovery sees by the files that it is one (check_nothing_missed).
//
// It finds torn and flipped bytes itself; that it is authentic follows from the closes, which are
// signed and name each other, and from the chain.
#pragma once

#include <optional>
#include <set>
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
  // Its file is gone: what lives of it is in files of units. Where its records stand in the line,
  // and its close's digest, are kept for ever.
  bool collected = false;
  bool operator==(const SegmentEntry&) const = default;
};

struct BaseEntry {
  uint64_t number = 0;
  uint64_t table_offset = 0;
  uint64_t table_entries = 0;
  Digest footer_digest;
  bool operator==(const BaseEntry&) const = default;
};

// A file of the engine (engine.h).
enum class KeptKind : uint32_t { kMap = 1, kLocator = 2, kDeaths = 3, kUnits = 4 };
struct KeptFile {
  uint64_t number = 0;
  KeptKind kind = KeptKind::kMap;
  uint64_t a = 0;  // of a map, deaths: the segments after the a-th up to the b-th
  uint64_t b = 0;
  uint64_t length = 0;
  Digest digest;  // SHA-256 of a table's footer, of all bytes of a file of units
  bool operator==(const KeptFile&) const = default;
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
  // Of the store that left this state: what the next one names. Zeroes before the first.
  Digest last_store;
  VmId vm;
  crypto::PublicKey public_key{};
  uint64_t next_file_number = 1;
  Horizon horizon;
  Lineage lineage;  // of what is durable and closed; younger incarnations are found by the scan
  std::vector<SegmentEntry> segments;  // in the order of their records: closed, open, next
  std::vector<BaseEntry> bases;        // oldest first
  std::vector<KeptFile> kept;          // oldest first
  std::vector<uint64_t> points;        // retained: ordinals of segments, at whose ends they lie
  bool operator==(const Manifest&) const = default;
};

// The entries that begin at or before `last`, as they stand in MANIFEST: kLineageEntrySize each.
inline constexpr size_t kLineageEntrySize = kIncarnationBodySize + 16;
Bytes encode_lineage(const Lineage& lineage, Sequence last);
// Whole entries, in order of their first sequence; kCorrupt else.
Result<Lineage> decode_lineage(ByteSpan from);
// The same of entries that continue `before`.
Result<Lineage> decode_lineage_after(const Lineage& before, ByteSpan from);

// One store: its bytes, and the state with it. `state.last_store` is its digest.
struct ManifestStore {
  Bytes bytes;
  Manifest state;
};
// The whole of `next`, which counts one store more than it says now.
ManifestStore snapshot_of(Manifest next);
// What leads from `stored` to `next`, to be appended; nullopt if only a snapshot can say it, or
// says it shorter. Of `next`, generation and last_store mean nothing.
std::optional<ManifestStore> edit_between(const Manifest& stored, Manifest next);
inline constexpr size_t kManifestEditMax = 16u << 10;  // a longer one is a snapshot
bool lists_new_files(const Manifest& stored, const Manifest& next);

struct ManifestLog {
  Manifest state;
  size_t end = 0;     // of its whole stores; what follows is one torn edit
  size_t stores = 0;  // found whole, the snapshot included
};
// kCorrupt: the snapshot is not whole, or something after it that no crash leaves.
Result<ManifestLog> decode_manifest_log(ByteSpan from);
Result<Manifest> decode_manifest(ByteSpan from);  // its state

Result<Manifest> load_manifest(Storage& storage);  // kNotFound: no journal here
// The snapshot, over whatever is there; durable when it returns.
Status store_manifest(Storage& storage, const ManifestStore& snapshot);

// What a replica is being given, until it is whole: nothing counts on such a file, and the next
// opening removes it.
inline constexpr std::string_view kSeedNamePrefix = "seed-";

std::string segment_name(uint64_t number);
std::string base_name(uint64_t number);
std::string kept_name(KeptKind kind, uint64_t number);
std::set<std::string> names_of(const Manifest& manifest);  // the files that it lists

}  // namespace hf::journal
