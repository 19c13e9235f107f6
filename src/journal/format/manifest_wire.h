// The entries of MANIFEST as bytes: what a snapshot and an edit have in common.
#pragma once

#include "journal/format/manifest.h"
#include "journal/format/wire.h"

namespace hf::journal::manifest_wire {

inline constexpr uint16_t kVersion = 3;  // of snapshots and edits alike
inline constexpr size_t kHorizonSize = 112;
inline constexpr size_t kSegmentSize = 160;
inline constexpr size_t kBaseSize = 64;
inline constexpr size_t kKeptSize = 80;
inline constexpr size_t kNumberSize = 8;
inline constexpr size_t kDigestSize = 32;
inline constexpr uint32_t kSegmentClosed = 1;
inline constexpr uint32_t kSegmentCollected = 2;
inline constexpr size_t kAlignment = 8;  // of every store's length

void put_horizon(FieldWriter& out, const Horizon& horizon);
Horizon get_horizon(FieldReader& in);
void put_segment(FieldWriter& out, const SegmentEntry& entry);
SegmentEntry get_segment(FieldReader& in);
void put_base(FieldWriter& out, const BaseEntry& entry);
BaseEntry get_base(FieldReader& in);
void put_kept(FieldWriter& out, const KeptFile& file);
KeptFile get_kept(FieldReader& in);
// Of a kind that there is.
Status check_kept(const std::vector<KeptFile>& files);
// In order: the closed ones, then the others.
Status check_order(const std::vector<SegmentEntry>& segments);

struct Snapshot {
  Manifest state;
  size_t size = 0;
};
Result<Snapshot> decode_snapshot(ByteSpan file);  // what follows it is not looked at

}  // namespace hf::journal::manifest_wire
