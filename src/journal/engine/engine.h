// Engine: what a journal's closed segments left behind, kept readable at every retained position
// and no longer (DESIGN "Segments, maps, points").
//
//   segment closed ──▶ maps: one of it, and the merged ones that are due (chain/schedule.h), signed
//                      every T-th: what the run hides of older records, as a death list
//   too much room  ──▶ a batch: live units of the emptiest files ──▶ files of units, a locator
//                      synced, read back, switched by one edit of MANIFEST, then removed
//
// Data stays where it was written until a batch moves it, as the same sealed bytes; nothing here
// opens a unit. The key signs maps, no more. Memory: the tables of segments without a map, caches,
// and while a batch runs about 100 bytes for each record that survives it.
//
// One job at a time, in steps of one storage call; everything else goes on. An opening reads the
// footers of maps, locators and death lists, and no record of a segment that has a map.
//
// *Not wired*: Journal and ReplicaJournal use index, base files and merge. The tests' EngineHome is
// what a Journal has to do.
#pragma once

#include <deque>

#include "base/clock.h"
#include "journal/chain/source.h"
#include "journal/collection/batch.h"
#include "journal/collection/deaths.h"
#include "journal/collection/victims.h"
#include "journal/engine/writes.h"
#include "journal/log/record_log.h"

namespace hf::journal {

struct EngineOptions {
  VmId vm;
  KeyVersion key_version;
  crypto::PublicKey public_key{};
  const crypto::SigningKey* key = nullptr;  // outlives the engine
  size_t cache_bytes = 8u << 20;
  // What segments and files of units may take together; 0: nothing is collected.
  uint64_t target_bytes = 0;
  uint64_t output_bytes = 64u << 20;
  uint64_t outputs = 8;  // of one batch
  EngineFaults faults = {};
};

struct EngineStatus {
  uint64_t mapped = 0;  // segments that have a map
  size_t maps = 0;
  size_t locators = 0;
  uint64_t data_bytes = 0;  // of segments and files of units
  uint64_t table_bytes = 0;
  uint64_t batches = 0;
  uint64_t collected_segments = 0;
  uint64_t maps_written = 0;      // bytes
  uint64_t others_written = 0;    // of locators and death lists
  uint64_t copied_bytes = 0;      // by batches
  std::set<std::string> damaged;  // files with a unit that differs from its digest
};

class Engine {
 public:
  Engine(Storage& storage, Clock& clock, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // ---- Opening: blocking. A RecoveryVisitor hands on what it hears. ----
  // How many of the oldest segments have a map. kCorrupt names what is not there, not signed or
  // does not join.
  Result<size_t> load(const Manifest& manifest);
  void on_record(uint64_t ordinal, const RecordHeader& header, const Digest& header_digest,
                 uint64_t position);
  // After recovery. The log outlives the engine.
  void start(RecordLog& log);

  // ---- Running ----
  // The record that was just committed to the log.
  void committed(const RecordHeader& header, const Digest& header_digest, uint64_t position);
  void tick();
  Micros next_deadline() const;
  bool idle() const { return !job_; }
  void stop() { stopped_ = true; }  // begins nothing more
  const Error* last_error() const { return error_ ? &*error_ : nullptr; }

  // ---- Points: ends of segments that stay readable. Durable when `done` is told. ----
  // kConflict if what it shows may be collected already: it lies before decided_until().
  void add_point(uint64_t ordinal, Completion& done);
  void withdraw_point(uint64_t ordinal, Completion& done);
  const std::vector<uint64_t>& points() const;
  uint64_t decided_until() const { return found_until_; }

  // ---- Reading ----
  ViewPtr view();         // of the line's end
  Fronts fronts() const;  // taken together with it
  // Of a point, or of a close that is not before decided_until().
  Result<ViewPtr> view_at(uint64_t ordinal) const;
  EngineReads& reads() { return reads_; }

  EngineStatus status() const;

 private:
  struct PointChange {
    uint64_t ordinal = 0;
    bool withdrawn = false;
    Completion* done = nullptr;
  };
  // A segment that was not collected, or a file of units.
  struct DataFile {
    FilePtr file;
    bool young = false;
    uint64_t dead_bytes = 0;  // about
    uint64_t hidden_at = 0;   // on the whole
    bool damaged = false;
  };
  // A record in a victim, of which units live.
  struct Candidate {
    FilePtr file;
    bool young = false;
    uint64_t at = 0;  // bytes from the file's first
    size_t size = 0;
    VolumeId volume;
    uint64_t offset = 0;  // in the volume, of the first live unit
    uint64_t segment = 0;
    uint64_t place = 0;
    LiveUnits live;
  };
  struct SegmentDeaths {
    std::map<uint64_t, std::vector<Death>> by_place;
  };
  // A batch's outputs, until they are listed.
  struct Output {
    std::vector<TablePtr> locators;
    std::vector<FilePtr> files;
    std::vector<KeptFile> entries;
  };

  // Opening.
  Result<FileId> open_kept(const KeptFile& entry);
  Result<TablePtr> load_table(const KeptFile& entry);
  Status check_statement(const KeptTable& map, const Manifest& manifest) const;
  Status check_joined(const Manifest& manifest) const;

  // Jobs.
  void begin_job();
  void end_job(Status status);
  bool map_is_due() const;
  std::vector<size_t> victims_due() const;
  Task<Status> store_lists(std::vector<uint64_t> collected);
  uint64_t take_number();

  Task<Status> make_maps(uint64_t ordinal);
  Task<Status> merge_maps(uint64_t ordinal, std::vector<TablePtr>* made, TablePtr* deaths);
  Task<Result<TablePtr>> write_map(SegmentRun run, ExtentSource* source);
  Task<Result<TablePtr>> write_merged(SegmentRun run, std::vector<Death>* hidden);
  Task<Result<TablePtr>> write_deaths(SegmentRun run, std::vector<Death> deaths);
  Task<Status> find_deaths_within(SegmentRun run, std::vector<Death>* deaths);
  Task<Status> find_deaths_behind(TablePtr map, std::vector<Death>* deaths);
  Task<Result<std::vector<ExtentEntry>>> read_extents(uint64_t ordinal);
  std::set<SegmentRun> needed_runs() const;
  Task<Status> account(TablePtr deaths);
  Task<Status> account_all();

  Task<Status> change_points();

  Task<Status> collect(std::vector<size_t> victims);
  Task<Status> survey(const DataFile* victim, Retained retained,
                      std::map<uint64_t, SegmentDeaths>* deaths,
                      std::vector<Candidate>* candidates);
  Task<Result<SegmentDeaths>> deaths_of(uint64_t segment);
  Task<Result<Survivor>> copy(const Candidate* candidate);
  Task<Status> write_outputs(std::vector<Candidate> candidates, std::set<uint64_t>* damaged,
                             Output* output);
  Task<Status> finish_output(FileWriter* writer, const std::vector<Location>* here, Output* output);
  Task<Status> read_back(FilePtr file, const std::vector<Location>* locations);
  Task<Result<TablePtr>> write_locator(std::vector<Location> locations);
  Task<Result<TablePtr>> merge_locators(std::vector<TablePtr> newest_first,
                                        std::set<uint64_t> files);
  Retained retained() const;

  std::shared_ptr<View> new_view() const;
  void rebuild_view();
  FilePtr segment_file(uint64_t ordinal) const;
  void let_go(FilePtr file, bool segment);
  void sweep();
  LineClose close_at(uint64_t ordinal) const;

  Storage& storage_;
  Clock& clock_;
  const EngineOptions options_;
  EngineReads reads_;
  RecordLog* log_ = nullptr;

  std::map<SegmentRun, TablePtr> maps_;
  std::vector<TablePtr> locators_;  // the newest first
  std::vector<TablePtr> deaths_;    // the oldest first
  std::vector<DataFile> data_;
  // Of segments that were not collected: one each, so that who reads it is known.
  mutable std::map<uint64_t, std::shared_ptr<EngineFile>> segment_files_;
  std::map<uint64_t, std::shared_ptr<Present>> tables_;  // of segments without a map, by ordinal
  uint64_t mapped_ = 0;
  uint64_t found_until_ = 0;  // deaths are known that records up to the end of this segment caused
  bool accounted_ = false;    // dead_bytes say what the death lists do
  bool collected_in_vain_ = false;
  ViewPtr view_;

  struct Doomed {
    FilePtr file;
    bool segment = false;
  };
  std::vector<Doomed> doomed_;
  std::deque<PointChange> point_changes_;
  std::vector<std::pair<Completion*, Status>> later_;
  std::optional<Task<Status>> job_;
  std::vector<Unlisted> unlisted_;
  bool stopped_ = false;
  std::optional<Error> error_;
  Micros retry_at_{0};
  EngineStatus counted_;
};

}  // namespace hf::journal
