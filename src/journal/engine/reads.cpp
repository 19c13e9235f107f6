#include "journal/engine/reads.h"

#include <fmt/format.h>

#include "journal/format/wire.h"
#include "journal/table/find.h"

namespace hf::journal {

LeafPrefix leaf_of(const Digest& header_digest) {
  const std::array<std::byte, 1> leaf{};
  const Digest whole = crypto::sha256(leaf, header_digest.span());
  LeafPrefix prefix;
  std::copy_n(whole.bytes.begin(), prefix.size(), prefix.begin());
  return prefix;
}

Extent extent_of(const RecordHeader& header, const Digest& header_digest, uint64_t segment,
                 uint64_t place) {
  HF_ASSERT(header.has_extent());
  return {.volume = header.volume,
          .zero = header.kind == RecordKind::kZero,
          .offset = header.offset,
          .length = header.length,
          .sequence = header.sequence,
          .segment = segment,
          .place = place,
          .skip = 0,
          .leaf = leaf_of(header_digest)};
}

Task<Status> EngineReads::read(FilePtr file, uint64_t offset, MutableByteSpan to) {
  if (offset > file->length || to.size() > file->length - offset) {
    co_return corrupt("beyond the file's end").context(file->name);
  }
  CO_TRY_CONTEXT(
      co_await StorageWait([&](Completion& done) { storage_.read(file->file, offset, to, done); }),
      file->name);
  co_return Status();
}

Task<Status> EngineReads::read_page(const View* view, PageRequest request) {
  const FilePtr file = view->tables.at(request.table);
  Bytes page(request.page.length);
  CO_TRY(co_await read(file, request.page.offset, page));
  CO_TRY_CONTEXT(cache_.put(request, std::move(page)), file->name);
  co_return Status();
}

Task<Result<std::vector<Extent>>> EngineReads::look_up(ViewPtr view, Fronts fronts, VolumeId volume,
                                                       Range range) {
  Chain chain{.maps = view->chain.maps};
  for (const auto& front : fronts) chain.fronts.push_back(front.get());
  Lookup lookup(chain, cache_, volume, range);
  lookup.filters_lie = faults_.filters_lie;
  CO_TRY(co_await run(&lookup, view.get()));
  co_return lookup.found();
}

Task<Result<std::optional<Location>>> EngineReads::locate(const View* view, uint64_t segment,
                                                          uint64_t place) {
  Finder<LocationCodec> finder(view->locator_tables, cache_, {.major = segment, .minor = place});
  const Step step = CO_TRY(co_await run(&finder, view));
  if (step == Step::kEnd) co_return std::optional<Location>();
  co_return std::optional<Location>(finder.found());
}

namespace {
// The header that the map's leaf names, whatever led to it.
Result<RecordHeader> prove(ByteSpan header, const Extent& extent) {
  const RecordHeader record = TRY(decode_header(header));
  if (leaf_of(header_digest(header.first<kRecordHeaderSize>())) != extent.leaf) {
    return corrupt(fmt::format("another record than the map names ({})", extent.sequence.value));
  }
  if (record.kind != RecordKind::kWrite || record.volume != extent.volume ||
      record.sequence != extent.sequence || extent.skip > record.length ||
      extent.length > record.length - extent.skip || record.offset + extent.skip != extent.offset) {
    return corrupt(fmt::format("record {} is not what the map says", extent.sequence.value));
  }
  return record;
}
}  // namespace

Task<Result<StoredUnits>> EngineReads::fetch(ViewPtr view, Extent extent) {
  HF_ASSERT(!extent.zero);
  const auto young = view->young.find(extent.segment);
  if (young != view->young.end()) {
    co_return CO_TRY(co_await fetch_young(young->second, extent));
  }
  const auto at = CO_TRY(co_await locate(view.get(), extent.segment, extent.place));
  if (!at) {
    co_return corrupt(fmt::format("record {} (segment {}, place {}) is in no file",
                                  extent.sequence.value, extent.segment, extent.place));
  }
  const auto file = view->units.find(at->file);
  if (file == view->units.end()) {
    co_return corrupt(fmt::format("record {}: its locator names a file that is not there",
                                  extent.sequence.value));
  }
  co_return CO_TRY_CONTEXT(co_await fetch_survivor(file->second, at->offset, extent),
                           file->second->name);
}

Task<Result<StoredUnits>> EngineReads::fetch_young(FilePtr file, Extent extent) {
  StoredUnits found;
  const uint64_t at = kSegmentHeaderSize + extent.place;
  // The place of the units follows from the extent: what the header says is checked against it.
  CO_TRY(co_await read(file, at, found.header));
  found.record = CO_TRY(prove(found.header, extent));
  found.range =
      UnitLayout(found.record.offset, found.record.length).covering(extent.skip, extent.length);
  found.bytes.resize(found.range.stored_size);
  CO_TRY(co_await read(file, at + kRecordHeaderSize + found.range.stored_at, found.bytes));
  co_return found;
}

Task<Result<StoredUnits>> EngineReads::fetch_survivor(FilePtr file, uint64_t offset,
                                                      Extent extent) {
  if (offset >= file->length) co_return corrupt("a locator leads out of the file");
  std::array<std::byte, kSurvivorHeadMax> raw{};
  const MutableByteSpan part(
      raw.data(), static_cast<size_t>(std::min<uint64_t>(raw.size(), file->length - offset)));
  CO_TRY(co_await read(file, offset, part));
  const SurvivorHead head = CO_TRY(decode_survivor_head(part));
  StoredUnits found{.header = head.header};
  found.record = CO_TRY(prove(found.header, extent));
  const UnitLayout layout(found.record.offset, found.record.length);
  found.range = layout.covering(extent.skip, extent.length);
  size_t at = head.units_at;
  for (size_t i = 0; i < found.range.first; ++i) {
    if (head.live[i]) at += layout.unit(i).stored_length();
  }
  for (size_t i = found.range.first; i < found.range.first + found.range.count; ++i) {
    if (!head.live[i]) {
      co_return corrupt(
          fmt::format("record {}, unit {}: shown, and not there", found.record.sequence.value, i));
    }
  }
  found.bytes.resize(found.range.stored_size);
  CO_TRY(co_await read(file, offset + at, found.bytes));
  co_return found;
}

}  // namespace hf::journal
