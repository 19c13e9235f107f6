// Merger: the live content of the oldest closed segments, copied into a base file, so that their
// space comes back. In small steps between which the data path runs.
//
//   sources ─▶ copying ─▶ table ─▶ sync ─▶ install ─▶ switch ─▶ idle
//      run by run: read (tags checked), seal under the base's key, write
//      sources: their tables, oldest first: what was live where they end
//      table: zeroed ranges of the sources (if older bases stay), then the runs; signed footer
//      install: index extents that still name a source name the run instead
//      switch: MANIFEST names the base and no source, durably; only then are sources recycled
//
// The base is the state where the sources end, with what younger records have overwritten since:
// otherwise nothing could be opened there, and no replica could begin there (seed.h).
//
// Sources are the oldest segments, and every base too once there are merge_bases_max of them. A
// write that comes meanwhile wins: its extent names a newer segment, and after a crash that segment
// is replayed over the base. A crash before the switch leaves an unlisted file, which the next
// start removes.
#pragma once

#include "journal/format/options.h"
#include "journal/map/base_format.h"
#include "journal/map/files.h"
#include "journal/map/reader.h"

namespace hf::journal {

class Merger final : private Completion {
 public:
  struct Parts {
    Storage& storage;
    Clock& clock;
    Rng& rng;
    RecordLog& log;
    Reader& reader;
    Index& index;
    OpenFiles& files;
    const JournalKeys& keys;
  };
  Merger(const Parts& parts, const Options& options) : parts_(parts), options_(options) {}
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  // Does a step if one is due. `pinned`: what a peer may still ask for the records after.
  void tick(std::optional<Sequence> pinned);
  // When tick() has something to do (monotonic); UINT64_MAX: not before a completion or a close.
  Micros next_step_at(std::optional<Sequence> pinned) const;
  bool idle() const { return !in_flight_; }
  // Neither begins nor takes sources away before then (monotonic): a seed is being read.
  void hold_until(Micros time) { held_until_ = std::max(held_until_, time); }
  void stop();  // for good
  const Error* last_error() const { return error_ ? &*error_ : nullptr; }

 private:
  enum class State : uint8_t {
    kIdle,
    kHeader,
    kSources,
    kCopying,
    kWriting,
    kTable,
    kSync,
    kInstall,
    kSwitch
  };
  struct Run {
    VolumeId volume;
    uint64_t offset = 0;
    uint64_t length = 0;
  };

  void on_complete(Status status) override;
  bool due(std::optional<Sequence> pinned) const;
  Status begin();
  void read_sources();
  Status take_sources();
  void copy_step();
  std::optional<Run> next_run();
  void seal_run();
  void write_table();
  void install_step();
  void switch_over();
  void abandon(Error error);
  void drop_file();
  bool is_source(uint64_t file) const;
  void issue_write(ByteSpan bytes, State then);

  const Parts parts_;
  const Options& options_;
  State state_ = State::kIdle;
  State next_ = State::kIdle;  // once what is in flight is done
  bool in_flight_ = false;
  bool stopped_ = false;
  Micros retry_at_{0};
  std::optional<Error> error_;

  size_t source_segments_ = 0;
  bool with_bases_ = false;
  std::vector<uint64_t> sources_;  // file numbers, sorted
  uint64_t number_ = 0;
  FileId file_;
  BaseHeader header_;
  std::optional<crypto::Aead> aead_;
  uint64_t file_end_ = 0;
  Bytes table_;                  // encoded entries
  size_t next_source_ = 0;       // of the source bases, then of the source segments
  std::unique_ptr<Index> then_;  // what the sources hold, as it was where they end
  bool keeps_older_ = false;     // bases that are no sources
  std::optional<crypto::Sha256> data_;
  Micros held_until_{0};
  size_t installed_ = 0;  // bytes of table_
  uint64_t runs_ = 0;
  Index::Cursor cursor_;
  Run run_;
  Bytes plain_;
  Bytes out_;
};

}  // namespace hf::journal
