// EngineReads: what a view shows, found and read: an extent by the chain of maps, its record by
// ordinal and place, in its segment or by locator, and the units asked for, the record's header
// proven by the leaf that the map names. No key: who has it checks the units' tags, which have the
// header as additional data.
#pragma once

#include "base/task.h"
#include "journal/collection/locator.h"
#include "journal/collection/survivor.h"
#include "journal/engine/view.h"

namespace hf::journal {

// Faults that tests plant; no configuration reaches them.
struct EngineFaults {
  bool filters_lie = false;
  bool merged_oldest_first = false;
  bool shown_unit_dropped = false;
  bool rotten_unit_collected = false;
  bool locator_of_another_record = false;
  bool switched_before_synced = false;
  bool removed_under_readers = false;
  bool map_of_another_line_taken = false;
};

// Whole units of a record, as stored.
struct StoredUnits {
  std::array<std::byte, kRecordHeaderSize> header{};
  RecordHeader record;
  UnitRange range;
  Bytes bytes;
};

class EngineReads {
 public:
  EngineReads(Storage& storage, size_t cache_bytes, const EngineFaults& faults)
      : storage_(storage), cache_(cache_bytes), faults_(faults) {}

  // Runs what asks for pages of the view's tables. `asker` and `view` outlive it.
  template <typename Asker>
  Task<Result<Step>> run(Asker* asker, const View* view) {
    while (true) {
      const Step step = CO_TRY(asker->run());
      if (step != Step::kNeedsPage) co_return step;
      CO_TRY(co_await read_page(view, asker->request()));
    }
  }
  // In order, cut to the range. Fronts are looked at before it first waits.
  Task<Result<std::vector<Extent>>> look_up(ViewPtr view, Fronts fronts, VolumeId volume,
                                            Range range);
  // The units that have the extent's bytes. It is a write.
  Task<Result<StoredUnits>> fetch(ViewPtr view, Extent extent);
  // Where a record's survivor is; nullopt: in no collected file.
  Task<Result<std::optional<Location>>> locate(const View* view, uint64_t segment, uint64_t place);

  Task<Status> read(FilePtr file, uint64_t offset, MutableByteSpan to);
  PageCache& cache() { return cache_; }

 private:
  Task<Status> read_page(const View* view, PageRequest request);
  Task<Result<StoredUnits>> fetch_young(FilePtr file, Extent extent);
  Task<Result<StoredUnits>> fetch_survivor(FilePtr file, uint64_t offset, Extent extent);

  Storage& storage_;
  PageCache cache_;
  const EngineFaults& faults_;
};

LeafPrefix leaf_of(const Digest& header_digest);
// What a map says of a record that is a write or zeroes.
Extent extent_of(const RecordHeader& header, const Digest& header_digest, uint64_t segment,
                 uint64_t place);

}  // namespace hf::journal
