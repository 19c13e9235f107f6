#include "journal/collection/collect.h"

#include <algorithm>
#include <tuple>

#include "journal/format/wire.h"

namespace hf::journal {

Result<Survivor> survive(ByteSpan record, uint64_t segment, uint64_t place, const LiveUnits& live) {
  const RecordHeader header = TRY(decode_header(record));
  if (header.kind != RecordKind::kWrite || header.length == 0 || header.length > kRecordDataMax) {
    return corrupt("not a record with units");
  }
  const UnitLayout layout(header.offset, header.length);
  if (record.size() < kRecordHeaderSize + layout.stored_size()) {
    return corrupt("the record is cut short");
  }
  const ByteSpan payload = record.subspan(kRecordHeaderSize, layout.stored_size());
  if (payload_root(layout, payload) != header.payload_digest) {
    return corrupt("the record's units differ from its header");
  }
  HF_ASSERT(live.size() == layout.count());
  Survivor survivor{.segment = segment, .place = place, .live = live};
  std::ranges::copy(record.first(kRecordHeaderSize), survivor.header.begin());
  survivor.payload = prune(layout, payload, live);
  return survivor;
}

Result<Survivor> survive_again(const Survivor& survivor, const LiveUnits& live) {
  const RecordHeader header = TRY(decode_header(survivor.header));
  const UnitLayout layout(header.offset, header.length);
  TRY(check_pruned(layout, survivor.live, survivor.payload, header.payload_digest));
  Survivor less = survivor;
  less.live = live;
  less.payload = prune_again(layout, survivor.payload, survivor.live, live);
  return less;
}

Collected lay_out(std::vector<Survivor> survivors, uint64_t first_number, uint64_t output_bytes) {
  HF_ASSERT(output_bytes > 0);
  struct Sorted {
    uint32_t volume = 0;
    uint64_t offset = 0;
    const Survivor* survivor = nullptr;
  };
  std::vector<Sorted> order;
  for (const Survivor& survivor : survivors) {
    const RecordHeader header = decode_header(survivor.header).value();
    const UnitLayout layout(header.offset, header.length);
    const auto first = std::ranges::find(survivor.live, true);
    HF_ASSERT(first != survivor.live.end());
    const auto unit = static_cast<size_t>(first - survivor.live.begin());
    order.push_back(
        {.volume = header.volume.value, .offset = layout.unit(unit).offset, .survivor = &survivor});
  }
  std::ranges::sort(order, {}, [](const Sorted& each) {
    return std::tuple(each.volume, each.offset, each.survivor->segment, each.survivor->place);
  });
  Collected collected;
  for (const Sorted& each : order) {
    if (collected.files.empty() || collected.files.back().bytes.size() >= output_bytes) {
      collected.files.push_back({.number = first_number + collected.files.size(), .bytes = {}});
    }
    CollectedFile& file = collected.files.back();
    collected.locations.push_back({.segment = each.survivor->segment,
                                   .place = each.survivor->place,
                                   .file = file.number,
                                   .offset = file.bytes.size()});
    const Bytes bytes = encode_survivor(*each.survivor);
    file.bytes.insert(file.bytes.end(), bytes.begin(), bytes.end());
  }
  std::ranges::sort(collected.locations, {}, &Location::key);
  return collected;
}

}  // namespace hf::journal
