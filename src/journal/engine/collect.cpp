// Engine: a batch of files, of which what lives is copied into files of units, and the rest goes.
#include <algorithm>
#include <tuple>

#include "journal/collection/collect.h"
#include "journal/engine/engine.h"
#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr size_t kLocatorsMax = 4;  // so many are merged into one
constexpr uint64_t kWorthwhile = 16;
constexpr size_t kReadBackBytes = 1u << 20;
}  // namespace

std::vector<size_t> Engine::victims_due() const {
  if (options_.target_bytes == 0 || collected_in_vain_) return {};
  std::vector<FileUse> uses(data_.size());
  uint64_t bytes = 0;
  for (size_t i = 0; i < data_.size(); ++i) {
    const DataFile& data = data_[i];
    bytes += data.file->length;
    // Its deaths are not known yet, or it can't be read.
    if (data.damaged || (data.young && data.file->id > found_until_)) continue;
    uses[i] = {.file = data.file->id,
               .bytes = data.file->length,
               .live_bytes = data.file->length - std::min(data.dead_bytes, data.file->length),
               .hidden_at = data.hidden_at};
  }
  return choose_victims(uses, bytes, log_->durable().end.position.sequence.value,
                        {.target_bytes = options_.target_bytes,
                         .output_bytes = options_.output_bytes,
                         .outputs = options_.outputs});
}

Task<Status> Engine::collect(std::vector<size_t> victims) {
  const Retained shown = retained();
  std::vector<DataFile> chosen;
  std::set<uint64_t> numbers;  // of the batch: their places in `chosen`
  uint64_t before = 0;
  for (const size_t victim : victims) {
    numbers.insert(chosen.size());
    chosen.push_back(data_[victim]);
    before += data_[victim].file->length;
  }
  const uint64_t generation = log_->stored_manifest().generation;
  Batch batch(numbers, generation, generation);
  std::set<uint64_t> damaged;
  Output output;
  {
    std::map<uint64_t, SegmentDeaths> deaths;
    std::vector<Candidate> candidates;
    for (size_t i = 0; i < chosen.size(); ++i) {
      Status surveyed = co_await survey(&chosen[i], shown, &deaths, &candidates);
      if (surveyed.ok()) continue;
      if (surveyed.error().code != ErrorCode::kCorrupt) co_return surveyed;
      damaged.insert(i);
      std::erase_if(candidates, [&](const Candidate& each) { return each.file == chosen[i].file; });
    }
    std::ranges::sort(candidates, {}, [](const Candidate& each) {
      return std::tuple(each.volume.value, each.offset, each.segment, each.place);
    });
    std::set<uint64_t> differ;
    CO_TRY(co_await write_outputs(std::move(candidates), &differ, &output));
    for (size_t i = 0; i < chosen.size(); ++i) {
      const uint64_t id = chosen[i].file->id * 2 + (chosen[i].young ? 1 : 0);
      if (differ.contains(id)) damaged.insert(i);
    }
  }
  for (const uint64_t each : damaged) batch.damaged(each);
  batch.written();
  batch.synced();
  batch.read_back();

  // One edit: what came and what went.
  std::vector<KeptFile>& kept = log_->manifest().kept;
  std::vector<uint64_t> segments;
  std::set<uint64_t> gone;
  for (const uint64_t each : batch.victims()) {
    const DataFile& data = chosen[each];
    if (data.young) {
      segments.push_back(log_->closed()[data.file->id - 1].number);
    } else {
      gone.insert(data.file->id);
    }
  }
  const bool merged = output.locators.size() > 1;  // the second stands for all
  if (merged) {
    for (const TablePtr& locator : locators_) gone.insert(locator->entry.number);
  }
  std::erase_if(kept, [&](const KeptFile& each) { return gone.contains(each.number); });
  for (const KeptFile& entry : output.entries) kept.push_back(entry);
  if (!output.locators.empty()) kept.push_back(output.locators.back()->entry);
  CO_TRY(co_await store_lists(segments));
  batch.switched(log_->stored_manifest().generation);

  if (merged) {
    for (const TablePtr& locator : locators_) let_go(locator->file, false);
    locators_.clear();
    let_go(output.locators.front()->file, false);
  }
  if (!output.locators.empty()) locators_.insert(locators_.begin(), output.locators.back());
  uint64_t after = 0;
  for (const FilePtr& file : output.files) {
    data_.push_back({.file = file});
    after += file->length;
  }
  for (const uint64_t each : damaged) {
    for (DataFile& data : data_) {
      if (data.file == chosen[each].file) data.damaged = true;
    }
    before -= chosen[each].file->length;
  }
  for (const uint64_t each : batch.victims()) {
    std::erase_if(data_, [&](const DataFile& data) { return data.file == chosen[each].file; });
    let_go(chosen[each].file, chosen[each].young);
  }
  counted_.batches += 1;
  counted_.collected_segments += segments.size();
  counted_.copied_bytes += after;
  // Points may show what seemed dead: then it waits until something else dies.
  collected_in_vain_ = after + before / kWorthwhile > before;
  rebuild_view();
  co_return Status();
}

Task<Result<Engine::SegmentDeaths>> Engine::deaths_of(uint64_t segment) {
  SegmentDeaths found;
  const ViewPtr view = view_;
  for (const TablePtr& table : view->deaths) {
    if (table->entry.b < segment) continue;  // older than it
    TableCursor<DeathCodec> cursor(table->table, reads_.cache());
    cursor.seek({.major = segment, .minor = 0});
    while (CO_TRY(co_await reads_.run(&cursor, view.get())) == Step::kReady) {
      const Death& death = cursor.entry();
      if (death.segment != segment) break;
      found.by_place[death.place].push_back(death);
      cursor.next();
    }
  }
  co_return found;
}

// Which of its records have units that live.
Task<Status> Engine::survey(const DataFile* victim, Retained retained,
                            std::map<uint64_t, SegmentDeaths>* deaths,
                            std::vector<Candidate>* candidates) {
  const std::vector<Death> none;
  const auto consider = [&](Candidate candidate, const UnitLayout& layout, Sequence written,
                            const LiveUnits* had) {
    const auto& by_place = deaths->at(candidate.segment).by_place;
    const auto found = by_place.find(candidate.place);
    candidate.live =
        live_units(layout, written, found == by_place.end() ? none : found->second, retained);
    for (size_t i = 0; had != nullptr && i < had->size(); ++i) {
      candidate.live[i] = candidate.live[i] && (*had)[i];
    }
    if (options_.faults.shown_unit_dropped && candidate.live.size() > 1) {
      candidate.live.front() = false;
    }
    const auto first = std::ranges::find(candidate.live, true);
    if (first == candidate.live.end()) return;
    candidate.offset = layout.unit(static_cast<size_t>(first - candidate.live.begin())).offset;
    candidates->push_back(std::move(candidate));
  };
  if (victim->young) {
    const uint64_t ordinal = victim->file->id;
    if (!deaths->contains(ordinal)) {
      deaths->emplace(ordinal, CO_TRY(co_await deaths_of(ordinal)));
    }
    for (const ExtentEntry& entry : CO_TRY(co_await read_extents(ordinal))) {
      if (entry.kind != RecordKind::kWrite) continue;
      const UnitLayout layout(entry.offset, entry.length);
      consider({.file = victim->file,
                .young = true,
                .at = kSegmentHeaderSize + entry.position,
                .size = kRecordHeaderSize + layout.stored_size(),
                .volume = entry.volume,
                .segment = ordinal,
                .place = entry.position},
               layout, entry.sequence, nullptr);
    }
    co_return Status();
  }
  for (uint64_t at = 0; at < victim->file->length;) {
    std::array<std::byte, kSurvivorHeadMax> raw{};
    const MutableByteSpan part(
        raw.data(), static_cast<size_t>(std::min<uint64_t>(raw.size(), victim->file->length - at)));
    CO_TRY(co_await reads_.read(victim->file, at, part));
    const SurvivorHead head = CO_TRY_CONTEXT(decode_survivor_head(part), victim->file->name);
    if (!deaths->contains(head.segment)) {
      deaths->emplace(head.segment, CO_TRY(co_await deaths_of(head.segment)));
    }
    consider({.file = victim->file,
              .young = false,
              .at = at,
              .size = head.stored_size,
              .volume = head.record.volume,
              .segment = head.segment,
              .place = head.place},
             UnitLayout(head.record.offset, head.record.length), head.record.sequence, &head.live);
    at += head.stored_size;
  }
  co_return Status();
}

// kCorrupt: a unit differs from its digest, and is not copied.
Task<Result<Survivor>> Engine::copy(const Candidate* candidate) {
  Bytes bytes(candidate->size);
  CO_TRY(co_await reads_.read(candidate->file, candidate->at, bytes));
  if (candidate->young) {
    co_return survive(bytes, candidate->segment, candidate->place, candidate->live);
  }
  const Survivor had = CO_TRY(decode_survivor(bytes));
  co_return survive_again(had, candidate->live);
}

// `damaged`: of files, twice the id, and one if it is a segment.
Task<Status> Engine::write_outputs(std::vector<Candidate> candidates, std::set<uint64_t>* damaged,
                                   Output* output) {
  std::vector<Location> all;
  std::vector<Location> here;
  std::optional<FileWriter> writer;
  for (const Candidate& candidate : candidates) {
    Result<Survivor> survivor = co_await copy(&candidate);
    if (!survivor.ok()) {
      if (survivor.error().code != ErrorCode::kCorrupt) co_return std::move(survivor).error();
      damaged->insert(candidate.file->id * 2 + (candidate.young ? 1 : 0));
      continue;
    }
    if (!writer) {
      writer.emplace(storage_, unlisted_, KeptKind::kUnits, take_number());
      CO_TRY(co_await writer->create());
    }
    Bytes bytes = encode_survivor(*survivor);
    if (options_.faults.rotten_unit_collected) {
      const SurvivorHead head = CO_TRY(decode_survivor_head(bytes));
      bytes[head.units_at] ^= std::byte{1};
    }
    here.push_back({.segment = candidate.segment,
                    .place = candidate.place,
                    .file = writer->number(),
                    .offset = writer->end()});
    writer->take(bytes);
    if (writer->wants_flush()) CO_TRY(co_await writer->flush());
    if (writer->end() < options_.output_bytes) continue;
    CO_TRY(co_await finish_output(&*writer, &here, output));
    all.insert(all.end(), here.begin(), here.end());
    here.clear();
    writer.reset();
  }
  if (writer) CO_TRY(co_await finish_output(&*writer, &here, output));
  all.insert(all.end(), here.begin(), here.end());
  if (all.empty()) co_return Status();
  std::ranges::sort(all, {}, &Location::key);
  if (options_.faults.locator_of_another_record && all.size() > 1) {
    std::swap(all.front().file, all.back().file);
    std::swap(all.front().offset, all.back().offset);
  }
  output->locators.push_back(CO_TRY(co_await write_locator(std::move(all))));
  if (locators_.size() < kLocatorsMax) co_return Status();
  std::vector<TablePtr> newest_first = locators_;
  newest_first.insert(newest_first.begin(), output->locators.front());
  std::set<uint64_t> files;
  for (const DataFile& data : data_) {
    if (!data.young) files.insert(data.file->id);
  }
  for (const FilePtr& file : output->files) files.insert(file->id);
  output->locators.push_back(
      CO_TRY(co_await merge_locators(std::move(newest_first), std::move(files))));
  co_return Status();
}

Task<Status> Engine::finish_output(FileWriter* writer, const std::vector<Location>* here,
                                   Output* output) {
  CO_TRY(co_await writer->flush());
  CO_TRY(co_await writer->sync(options_.faults.switched_before_synced));
  const FilePtr file = writer->file();
  CO_TRY(co_await read_back(file, here));
  output->files.push_back(file);
  output->entries.push_back({.number = writer->number(),
                             .kind = KeptKind::kUnits,
                             .length = writer->end(),
                             .digest = writer->digest()});
  co_return Status();
}

// From the file again, and each survivor against its own header.
Task<Status> Engine::read_back(FilePtr file, const std::vector<Location>* locations) {
  if (options_.faults.rotten_unit_collected) co_return Status();
  Bytes window;
  for (size_t first = 0; first < locations->size();) {
    const uint64_t from = (*locations)[first].offset;
    size_t next = first + 1;
    const auto end_of = [&](size_t index) {
      return index < locations->size() ? (*locations)[index].offset : file->length;
    };
    while (next < locations->size() && end_of(next + 1) - from <= kReadBackBytes) ++next;
    window.resize(static_cast<size_t>(end_of(next) - from));
    CO_TRY(co_await reads_.read(file, from, window));
    for (; first < next; ++first) {
      const ByteSpan rest = ByteSpan(window).subspan((*locations)[first].offset - from);
      CO_TRY_CONTEXT(decode_survivor(rest), file->name);
    }
  }
  co_return Status();
}

Task<Result<TablePtr>> Engine::write_locator(std::vector<Location> locations) {
  KeptTableWriter<LocationCodec> writer(storage_, unlisted_, KeptKind::kLocator, take_number(), {});
  CO_TRY(co_await writer.create());
  for (const Location& location : locations) {
    writer.add(location);
    if (writer.wants_flush()) CO_TRY(co_await writer.flush());
  }
  TablePtr made = CO_TRY(co_await writer.finish({}, nullptr));
  counted_.others_written += made->entry.length;
  co_return made;
}

// The newest place of each record, of those whose files are there.
Task<Result<TablePtr>> Engine::merge_locators(std::vector<TablePtr> newest_first,
                                              std::set<uint64_t> files) {
  View pages;
  std::deque<TableCursor<LocationCodec>> cursors;
  std::vector<bool> ended(newest_first.size(), false);
  for (const TablePtr& table : newest_first) {
    pages.tables.emplace(table->table.number, table->file);
    cursors.emplace_back(table->table, reads_.cache()).seek({});
  }
  KeptTableWriter<LocationCodec> writer(storage_, unlisted_, KeptKind::kLocator, take_number(), {});
  CO_TRY(co_await writer.create());
  while (true) {
    std::optional<Location> least;
    for (size_t i = 0; i < cursors.size(); ++i) {
      if (ended[i]) continue;
      ended[i] = CO_TRY(co_await reads_.run(&cursors[i], &pages)) == Step::kEnd;
      if (!ended[i] && (!least || cursors[i].entry().key() < least->key())) {
        least = cursors[i].entry();
      }
    }
    if (!least) break;
    for (size_t i = 0; i < cursors.size(); ++i) {
      if (!ended[i] && cursors[i].entry().key() == least->key()) cursors[i].next();
    }
    if (!files.contains(least->file)) continue;
    writer.add(*least);
    if (writer.wants_flush()) CO_TRY(co_await writer.flush());
  }
  TablePtr made = CO_TRY(co_await writer.finish({}, nullptr));
  counted_.others_written += made->entry.length;
  co_return made;
}

}  // namespace hf::journal
