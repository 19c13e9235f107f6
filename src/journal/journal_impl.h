// Journal's parts, for its own translation units.
#pragma once

#include "journal/journal.h"
#include "journal/map/merge.h"
#include "journal/map/reader.h"
#include "journal/ship/published.h"

namespace hf::journal {

// Fills the index while a journal is recovered, and checks every tag that no signed close covers.
class KeyedRecovery final : public RecoveryVisitor {
 public:
  KeyedRecovery(Storage& storage, Index& index, Sealer& sealer)
      : storage_(storage), index_(index), sealer_(sealer) {}
  Status on_base(const BaseEntry& base, FileId file) override;
  Status on_extent(const Segment& segment, const ExtentEntry& entry) override;
  Status on_unlisted(const ScannedRecord& record) override;

  struct BaseKey {
    uint64_t number = 0;
    std::array<std::byte, 32> salt{};
  };
  const std::vector<BaseKey>& base_keys() const { return base_keys_; }
  // What the newest base says the segments begin at; it is signed, MANIFEST is not.
  const std::optional<Horizon>& through() const { return through_; }

 private:
  Storage& storage_;
  Index& index_;
  Sealer& sealer_;
  std::vector<BaseKey> base_keys_;
  std::optional<Horizon> through_;
};

struct Journal::Impl {
  Impl(Storage& storage_in, Clock& clock_in, Rng& rng_in, const Options& options_in)
      : storage(storage_in),
        clock(clock_in),
        rng(rng_in),
        options(options_in),
        pins(options_in.pin_bytes_max, options_in.merge_keep_segments) {}

  // The parts that need a recovered state; called once.
  void start(Recovered recovered, const std::vector<KeyedRecovery::BaseKey>& base_keys);
  Status begin_incarnation();
  Result<Sequence> append(RecordHeader header, ByteSpan data, Completion* done, WriteOptions how);
  Status append_close();
  // Fields every record has.
  RecordHeader header_of(RecordKind kind) const;
  void index_record(const RecordHeader& header, uint64_t offset);

  Storage& storage;
  Clock& clock;
  Rng& rng;
  const Options options;
  Index index;
  OpenFiles files;
  std::unique_ptr<Sealer> sealer;
  std::unique_ptr<RecordLog> log;
  std::unique_ptr<Reader> reader;
  std::unique_ptr<Published> published;
  Pins pins;
  std::unique_ptr<Merger> merger;
  bool closing = false;
};

}  // namespace hf::journal
