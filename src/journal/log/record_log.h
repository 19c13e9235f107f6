// RecordLog: finished records in, files out. Keyless: what Journal (which seals) and ReplicaJournal
// (which receives) have in common — staging, prefix acknowledgement, group commit, segments and
// their succession, the MANIFEST.
//
// Appending:  reserve() gives space for one record, the owner writes header and payload into it,
// commit() puts it in the line. A close record ends its segment: its table and footer follow, the
// next record begins the next segment.
//
// Sync: one in flight, of the oldest file with bytes not durable; it counts for the records whose
// writes had completed when it was issued. Any failed write or sync is final.
//
// Files: nothing is written into a segment before a durable MANIFEST lists it, and nothing that one
// lists is taken away before a later one is durable. The owner need not wait for either: records
// are staged meanwhile, and the retired file stays. MANIFEST is stored by one store at a time, each
// of the state when it begins (manifest_writer.h).
//
// Blocks, besides opening: creating the empty file that marks a failed sync, before anybody is
// told.
#pragma once

#include <deque>
#include <list>

#include "base/clock.h"
#include "journal/log/manifest_writer.h"
#include "journal/log/recovery.h"
#include "journal/log/staging.h"

namespace hf::journal {

inline constexpr Micros kNever{UINT64_MAX};

// Stands in the page cache from a failed sync until what it may have lost was written again. After
// a failure the kernel may hold pages as clean that the medium never got: a successor in the same
// boot reads them, syncs nothing, and would take them for durable. A reboot needs no mark.
inline constexpr std::string_view kSyncFailedName = "SYNC-FAILED";

class RecordLog final : private StagingOwner {
 public:
  RecordLog(Storage& storage, Clock& clock, const LogOptions& options, Recovered recovered);
  ~RecordLog();
  RecordLog(const RecordLog&) = delete;
  RecordLog& operator=(const RecordLog&) = delete;

  // ---- Appending ----
  bool accepting() const;
  // This record would pass the segment's end: a close comes first.
  bool must_close_before(size_t stored) const;
  // The open segment's size with a record of `stored` bytes more.
  uint64_t segment_with(size_t stored) const {
    return (open_ ? open_end_ : kSegmentHeaderSize) + stored;
  }
  // Space for a record of `stored` bytes, with zeroed padding expected of the caller. May begin a
  // segment; if none was prepared, its records wait in memory until it is made and listed.
  Result<MutableByteSpan> reserve(RecordKind kind, size_t stored);
  // The record now stands in the reserved space.
  void commit(const RecordHeader& header, ByteSpan record);
  CloseBody close_body() const {
    return summary_.close_body(line_.epoch(), line_.end(), previous_close_);
  }
  bool open_has_records() const { return open_.has_value() && summary_.records() > 0; }

  // Told when the record of that number, the last committed, is appended / durable.
  void acknowledge(Sequence sequence, Completion& done);
  void acknowledge_durable(Sequence sequence, Completion& done);
  // Told from the next tick().
  void complete_later(Completion& done, Status status);

  // Completes when all is written and durable and MANIFEST lists every closed segment. Nothing may
  // be appended meanwhile or afterwards.
  void quiesce(Completion& done);

  // ---- Opening: blocking. Until finish_opening() nothing is issued on the data path. ----
  // Before the first record: removes files that a crash left unlisted, writes repairs, syncs.
  Status make_inherited_durable();
  // Writes and syncs what was committed, lists it in MANIFEST, cuts the unused rest of segments
  // closed short.
  Status finish_opening();

  // ---- Time ----
  void tick();
  Micros next_deadline() const;

  // ---- State ----
  const Line& line() const { return line_; }
  const SegmentSummary& summary() const { return summary_; }
  const Digest& previous_close() const { return previous_close_; }
  const Reach& appended() const { return appended_; }
  const Reach& durable() const { return durable_; }
  // The last record that may leave for another site.
  Sequence shippable() const {
    return (options_.faults.shipped_before_durable ? appended_ : durable_).end.position.sequence;
  }
  uint64_t unsynced_bytes() const { return unsynced_bytes_; }
  Micros oldest_unsynced_time() const {
    return first_times_.empty() ? Micros{} : first_times_.front().time;
  }
  const Error* failed() const { return failed_ ? &*failed_ : nullptr; }
  bool idle() const;
  void fail(Error error);

  // ---- Files ----
  const std::deque<Segment>& closed() const { return closed_; }
  // The segment that holds `sequence`; nullptr if it is merged away or not written yet.
  Segment* segment_of(Sequence sequence);
  Segment* open_segment() { return open_ ? &*open_ : nullptr; }
  uint64_t open_end() const { return open_end_; }
  Segment* find_segment(uint64_t number);
  // Bytes of its records that are written to the file.
  uint64_t written_end(const Segment& segment) const;
  const StagingQueue& staging() const { return staging_; }
  Manifest& manifest() { return manifest_; }
  const Manifest& manifest() const { return manifest_; }
  // Swaps the oldest `count` closed segments for what manifest().bases now says. Once that is
  // durable, recycles their files and completes. One at a time; a failure fails the log.
  void retire_oldest(size_t count, Completion& done);
  // Stores what manifest() now says of kept files and points, and that these closed segments are
  // collected, in one edit; completes when it is durable. One at a time; a failure fails the log.
  void store_lists(const std::vector<uint64_t>& collected, Completion& done);
  // After that: its file, of which nobody reads any more, may be used again.
  void release_collected(uint64_t number);
  const Manifest& stored_manifest() const { return manifest_writer_.stored(); }
  // Removes a file that no durable MANIFEST names. Best effort: the next opening does it else.
  void unlink(const std::string& name);

 private:
  struct PendingAck {
    Sequence sequence;
    Completion* done = nullptr;
  };
  struct Later {
    Completion* done = nullptr;
    Status status;
  };
  struct FirstTime {  // of the records of one write
    Sequence last;
    Micros time;
  };
  struct Unsynced {  // a file with bytes that may not be durable
    uint64_t segment = 0;
    FileId file;
    Reach reach;
    uint64_t writes = 0;    // completed since it came onto the list
    bool finished = false;  // its last byte is written
  };
  // Steps of the next segment's preparation.
  enum class Prepare : uint8_t { kIdle, kCreating, kRenaming, kZeroing, kSyncing };
  struct SyncDone final : Completion {
    explicit SyncDone(RecordLog& owner) : log(owner) {}
    void on_complete(Status status) override { log.on_synced(std::move(status)); }
    RecordLog& log;
  };
  struct PrepareDone final : Completion {
    explicit PrepareDone(RecordLog& owner) : log(owner) {}
    void on_complete(Status status) override { log.on_prepare_step(std::move(status)); }
    RecordLog& log;
  };

  struct StoreDone final : Completion {
    explicit StoreDone(RecordLog& owner) : log(owner) {}
    void on_complete(Status status) override { log.on_manifest_stored(std::move(status)); }
    RecordLog& log;
  };
  struct UnlinkDone final : Completion {
    explicit UnlinkDone(RecordLog& owner) : log(owner) {}
    void on_complete(Status) override { --log.unlinks_in_flight_; }
    RecordLog& log;
  };
  // A segment's file that is being made because none was prepared.
  struct Making final : Completion {
    Making(RecordLog& owner, uint64_t number_in) : log(owner), number(number_in) {}
    void on_complete(Status status) override { log.on_made(*this, std::move(status)); }
    RecordLog& log;
    uint64_t number;
  };
  struct Retiring {
    std::vector<Segment> segments;
    uint64_t generation = 0;  // of the MANIFEST without them
    Completion* done = nullptr;
  };

  struct ListsStore {
    uint64_t generation = 0;
    Completion* done = nullptr;
  };

  void on_written(StagedWrite& write, Status status) override;
  void pump();
  void note_unsynced(const StagedWrite& write);
  void finish_segment(const RecordHeader& close, ByteSpan record, uint64_t offset);
  Status begin_segment();
  Status make_segment_now();
  void make_segment();
  void on_made(Making& making, Status status);
  Segment* find_any(uint64_t number);  // also one that is prepared

  void start_sync();
  bool sync_wanted() const;
  void on_synced(Status status);
  void reached_durable(const Reach& reach);
  void note_segment_synced(uint64_t number);
  void finish_quiesce();
  void deliver_durable();
  void deliver_later();

  void prepare_step();
  void begin_preparation();
  void on_prepare_step(Status status);
  void abandon_preparation();
  Result<ManifestStore> store_manifest_now();
  // Stores MANIFEST as it will be when the store begins; the generation that will then be durable.
  uint64_t want_manifest();
  void begin_store();
  void on_manifest_stored(Status status);
  bool give_room_back();
  void note_listed(const Manifest& stored);
  Manifest current_manifest() const;
  void recycle(Segment segment);
  Status cut_short_segments();
  void remove_unlisted();
  void note_failed_sync();
  Status make_manifest_durable(bool rewrite);
  Status sync_inherited(FileId file, bool rewrite);

  Storage& storage_;
  Clock& clock_;
  const LogOptions options_;
  Manifest manifest_;  // its lists of segments and lineage are built when it is stored
  Line line_;
  SegmentSummary summary_;
  Digest previous_close_;
  std::deque<Segment> closed_;
  std::optional<Segment> open_;
  uint64_t open_end_ = 0;         // with what is staged
  uint64_t written_segment_ = 0;  // the segment last written to
  uint64_t written_end_ = 0;      // and up to where its records are written
  std::vector<Segment> prepared_;
  std::vector<Repair> repairs_;
  std::vector<FileId> inherited_;
  std::vector<Segment> spare_;  // recycled files, zero-written once

  ManifestWriter manifest_writer_;
  bool manifest_wanted_ = false;
  StoreDone store_done_{*this};
  std::list<Making> makings_;  // few: their records fill the staging buffers
  std::optional<Retiring> retiring_;
  std::optional<ListsStore> lists_store_;
  size_t unlinks_in_flight_ = 0;
  UnlinkDone unlink_done_{*this};

  StagingQueue staging_;
  Reach appended_;
  Reach durable_;
  Ring<PendingAck> acks_;
  std::vector<PendingAck> durable_acks_;
  Ring<Later> later_;
  Ring<FirstTime> first_times_;
  std::optional<Error> failed_;
  bool opening_ = true;
  bool quiescing_ = false;  // for good
  Completion* quiesce_done_ = nullptr;
  std::optional<uint64_t> quiesce_generation_;  // of the last MANIFEST

  Ring<Unsynced> unsynced_{8};
  bool sync_in_flight_ = false;
  Unsynced sync_covers_;
  bool sync_pretended_ = false;     // Faults::sync_skipped
  uint64_t unsynced_bytes_ = 0;     // appended since the last sync was issued
  Micros unsynced_since_ = kNever;  // monotonic
  SyncDone sync_done_{*this};

  Prepare prepare_ = Prepare::kIdle;
  bool prepare_in_flight_ = false;
  std::optional<Segment> preparing_;
  uint64_t prepared_bytes_ = 0;
  Bytes zeroes_;
  Micros prepare_retry_at_{0};  // monotonic
  PrepareDone prepare_done_{*this};
};

}  // namespace hf::journal
