// Merger: the live content of the oldest closed segments, copied into a base file, so that their
// space comes back. In small steps between which the data path runs.
//
//   create ─▶ sources ─▶ copying ─▶ table ─▶ sync ─▶ install ─▶ switch ─▶ switching ─▶ idle
//      run by run: read (tags checked), seal under the base's key, write
//      sources: their tables, oldest first: what was live where they end
//      table: zeroed ranges of the sources (if older bases stay), then the runs; signed footer
//      install: index extents that still name a source name the run instead
//      switch: MANIFEST names the base and no source, durably; only then (switching) are sources
//              recycled
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
#include "journal/map/pins.h"
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
    Pins& pins;
    const JournalKeys& keys;
  };
  Merger(const Parts& parts, const Options& options) : parts_(parts), options_(options) {}
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  // Does a step if one is due, as far as the pins allow; lets those go that hold too much.
  void tick();
  // When tick() has something to do (monotonic); UINT64_MAX: not before a completion or a close.
  Micros next_step_at() const;
  bool idle() const { return !in_flight_; }
  void stop();  // for good
  const Error* last_error() const { return error_ ? &*error_ : nullptr; }

 private:
  enum class State : uint8_t {
    kIdle,
    kCreate,
    kHeader,
    kSources,
    kCopying,
    kWriting,
    kTable,
    kSync,
    kInstall,
    kSwitch,
    kSwitching
  };
  struct Run {
    VolumeId volume;
    uint64_t offset = 0;
    uint64_t length = 0;
  };

  void on_complete(Status status) override;
  bool may_merge() const;
  bool due() const;
  void begin();
  void read_sources();
  Status take_sources();
  void copy_step();
  std::optional<Run> next_run();
  bool lives_in_source(const Index::Found& found) const;
  void seal_run();
  void write_table();
  void install_step();
  void switch_over();
  void on_switched(const Status& status);
  void abandon(Error error);
  void drop_file();
  void forget();
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
  std::vector<BaseEntry> merged_;  // bases that are sources, once switched
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
  size_t installed_ = 0;  // bytes of table_
  uint64_t runs_ = 0;
  Index::Cursor cursor_;
  Run run_;
  Bytes plain_;
  Bytes out_;
};

}  // namespace hf::journal
