// What the owner of a journal chooses; the defaults are production's.
#pragma once

#include <optional>

#include "base/ids.h"
#include "crypto/crypto.h"
#include "journal/format/faults.h"
#include "journal/format/format.h"
#include "journal/format/lineage.h"

namespace hf::journal {

// Limits of the append path. Sizes in bytes, times in microseconds.
struct LogOptions {
  uint64_t segment_bytes = 64ull << 20;  // a segment is closed when the next record would pass it
  // What a peer ships is refused when its segment passes this without a close: only closes are
  // signed, and an unclosed segment is scanned and its table held in memory.
  uint64_t segment_bytes_max = kSegmentBytesMax;
  size_t staging_bytes = 4u << 20;  // of each staging buffer; at least two largest records
  uint64_t auto_sync_us = 20'000;   // an appended record is synced at the latest so much later
  uint64_t auto_sync_bytes = 8ull << 20;   // or when so much is unsynced
  bool prepare_next = true;                // write the next segment with zeroes in the background
  size_t prepare_step_bytes = 256u << 10;  // zeroes written in one step
  size_t recycled_files_max = 2;           // kept for reuse
  // When opening, newest closed segments are read and checked record by record up to so many bytes.
  // Older ones have close and table checked; their units are checked as they are read. A restart
  // under a running guest passes 0: the process died, the files did not change hands.
  uint64_t verify_bytes_max = 1ull << 30;
  // Opening an unclosed tail of an older epoch than this ends it before its first record whose tag
  // differs, where it is refused otherwise. Who ships a tail can make records that chain, without
  // the key; an operator may have to give them up to get a VM back.
  Epoch bad_tail_given_up;
  Faults faults = {};
};

struct Options {
  VmId vm;
  SiteId site;
  Epoch epoch;  // at least the lineage's last; above it if that was another site's
  LogOptions log = {};
  // What the vault saw durable last: open() refuses (kConflict, nothing written) a journal whose
  // line does not hold it, which is an older copy or a fork. Not given: not compared.
  std::optional<LineEnd> known_durable = {};
  // Closed segments beyond the newest so many are merged into base files; 0: never.
  size_t merge_keep_segments = 0;
  size_t merge_batch_segments = 4;     // how many are merged at once
  size_t merge_step_bytes = 1u << 20;  // data moved in one step; a run is at most so long
  size_t merge_bases_max = 8;          // so many base files are merged into one
  // What a peer's pin or a seed's reader may keep from being merged, in bytes of segments; then it
  // is let go (Journal::take_pin_release), and the peer needs a seed.
  uint64_t pin_bytes_max = 8ull << 30;
};

struct ReplicaOptions {
  VmId vm;
  crypto::PublicKey public_key{};  // the VM's journal key, pinned at protection
  LogOptions log = {};
};

}  // namespace hf::journal
