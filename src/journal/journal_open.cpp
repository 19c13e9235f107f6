// Journal: creation, recovery and promotion.
#include <fmt/format.h>

#include "journal/format/wire.h"
#include "journal/journal_impl.h"
#include "journal/map/base_file.h"

namespace hf::journal {

Status KeyedRecovery::on_base(const BaseEntry& base, FileId file) {
  const auto [footer, table] = TRY(read_base_file(storage_, file, base, sealer_.keys().public_key(),
                                                  through_.value_or(Horizon{}).end));
  for (size_t at = 0; at < table.size(); at += kExtentEntrySize) {
    const ExtentEntry entry = TRY(decode_extent(ByteSpan(table).subspan(at, kExtentEntrySize)));
    if (entry.kind == RecordKind::kZero) {
      index_.erase(entry.volume, entry.offset, entry.length);
      continue;
    }
    // The table is signed, but by whoever had the key: nothing in it may lead out of the file.
    const uint64_t room = base.table_offset - kBaseHeaderSize;
    if (entry.position > room || sealed_size(entry.offset, entry.length) > room - entry.position) {
      return corrupt("base table leads out of the file");
    }
    index_.insert(entry.volume, entry.offset, entry.length,
                  {.start = entry.offset,
                   .length = static_cast<uint32_t>(entry.length),
                   .kind = PlaceKind::kRun,
                   .file = base.number,
                   .position = kBaseHeaderSize + entry.position,
                   .sequence = entry.sequence.value});
  }
  through_ = footer.through;
  base_keys_.push_back({.number = base.number, .salt = footer.header.salt});
  return {};
}

Status KeyedRecovery::on_extent(const Segment& segment, const ExtentEntry& entry) {
  if (entry.kind == RecordKind::kZero) {
    index_.erase(entry.volume, entry.offset, entry.length);
    return {};
  }
  HF_ASSERT(entry.length <= kRecordDataMax);
  index_.insert(entry.volume, entry.offset, entry.length,
                {.start = entry.offset,
                 .length = static_cast<uint32_t>(entry.length),
                 .kind = PlaceKind::kRecord,
                 .file = segment.number,
                 .position = kSegmentHeaderSize + entry.position,
                 .sequence = entry.sequence.value});
  return {};
}

Status KeyedRecovery::on_unlisted(const ScannedRecord& record) {
  Status known = sealer_.check_record(record.header, record.raw_header, record.payload);
  if (known.ok() || known.error().code != ErrorCode::kCorrupt) return known;
  return std::move(known).error().with_mend(
      "what the VM's key did not seal was made up on its way here or altered on the disk; after a "
      "failover, holdfast vm start NAME --give-up-bad-tail ends the journal before it");
}

void Journal::Impl::start(Recovered recovered,
                          const std::vector<KeyedRecovery::BaseKey>& base_keys) {
  for (const Segment& segment : recovered.closed) {
    files.add(segment.number, segment.file, PlaceKind::kRecord);
  }
  if (recovered.open) files.add(recovered.open->number, recovered.open->file, PlaceKind::kRecord);
  HF_ASSERT(recovered.bases.size() == recovered.manifest.bases.size());
  for (size_t i = 0; i < recovered.bases.size(); ++i) {
    files.add(recovered.manifest.bases[i].number, recovered.bases[i], PlaceKind::kRun);
  }
  log = std::make_unique<RecordLog>(storage, clock, options.log, std::move(recovered));
  reader = std::make_unique<Reader>(storage, *log, files, index, *sealer);
  published = std::make_unique<Published>(storage, *log, files);
  merger = std::make_unique<Merger>(Merger::Parts{.storage = storage,
                                                  .clock = clock,
                                                  .rng = rng,
                                                  .log = *log,
                                                  .reader = *reader,
                                                  .index = index,
                                                  .files = files,
                                                  .pins = pins,
                                                  .keys = sealer->keys()},
                                    options);
  for (const auto& base : base_keys)
    reader->add_base_key(base.number, sealer->keys().base_aead(base.salt));
}

// {incarnation} and, if it inherited records in an open segment, a close that signs those: what
// this incarnation writes begins in a segment of its own, and no table spans the fork.
Status Journal::Impl::begin_incarnation() {
  const Line& line = log->line();
  const bool inherits_open = log->open_has_records();
  IncarnationBody body{.salt = {},
                       .epoch = options.epoch,
                       .site = options.site,
                       .parent = line.end().position,
                       .parent_chain = line.end().chain};
  rng.fill(body.salt.bytes);
  HF_ASSERT(!body.salt.is_zero() && body.salt != body.parent.incarnation);
  RecordHeader header = header_of(RecordKind::kIncarnation);
  header.incarnation = body.salt;
  header.payload_length = kIncarnationPayloadSize;
  const MutableByteSpan record = TRY(log->reserve(header.kind, header.stored_size()));
  sealer->seal_incarnation(header, body, record);
  log->commit(header, record);
  HF_ASSERT(log->line().lineage().back().body == body);
  if (inherits_open) TRY(append_close());
  TRY(log->finish_opening());
  if (const Segment* open = log->open_segment(); open != nullptr && !files.has(open->number)) {
    files.add(open->number, open->file, PlaceKind::kRecord);
  }
  return {};
}

Result<std::unique_ptr<Journal>> Journal::create(Storage& storage, Clock& clock, Rng& rng,
                                                 JournalKeys keys, const Options& options) {
  HF_ASSERT(keys.vm() == options.vm);
  Recovered recovered;
  Result<Manifest> found = load_manifest(storage);
  if (!found.ok() && found.error().code != ErrorCode::kNotFound) return std::move(found).error();
  if (found.ok()) {
    // A creation that a crash cut off left no record: it may be done over.
    recovered = TRY(recover(storage, options.vm, keys.public_key(), options.log, nullptr));
    if (recovered.line.last().value > 0) {
      close_files(storage, recovered);
      return Error{.code = ErrorCode::kExists, .cause = "there is a journal in this directory"};
    }
  } else {
    TRY(check_nothing_orphaned(storage));
    recovered.manifest = {.vm = options.vm, .public_key = keys.public_key()};
    recovered.line = Line(options.vm, {}, {});
  }
  auto impl = std::make_unique<Impl>(storage, clock, rng, options);
  impl->sealer = std::make_unique<Sealer>(std::move(keys));
  impl->start(std::move(recovered), {});
  TRY_CONTEXT(impl->log->make_inherited_durable(), "create the journal");
  TRY_CONTEXT(impl->begin_incarnation(), "create the journal");
  return std::unique_ptr<Journal>(new Journal(std::move(impl)));
}

namespace {
// May this site open an incarnation with that epoch after the line's last one?
Status check_line(const Line& line, const Options& options) {
  if (line.last().value == 0) {
    return Error{.code = ErrorCode::kNotFound, .cause = "open the journal: it holds no record yet"};
  }
  HF_ASSERT(!line.lineage().empty());
  const IncarnationBody& last = line.lineage().back().body;
  if (options.epoch > last.epoch) return {};
  const bool same = options.epoch == last.epoch;
  if (same && (last.site == options.site || options.log.faults.epoch_not_raised)) return {};
  return Error{
      .code = ErrorCode::kConflict,
      .cause = fmt::format("the journal is at epoch {}{}, and epoch {} was asked for",
                           last.epoch.value, same ? " of another site" : "", options.epoch.value),
      .effect = "The VM is not started here: a newer promotion has the right to run it",
      .mend = "see which site is current: holdfast protection show"};
}

// A position that is merged away lies before what a signed base says, on this lineage.
Status check_fresh(Feed& feed, const LineEnd& known) {
  const LineMatch match = TRY(feed.locate(known));
  if (match == LineMatch::kOnLine || match == LineMatch::kMergedAway) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = fmt::format("the journal is older than, or forked from, what the vault saw "
                                    "durable (record {})",
                                    known.position.sequence.value),
               .effect = "The VM is not started: old state is never taken for current",
               .mend =
                   "put back the journal that belongs to this site, or recover the VM from its "
                   "replica: holdfast failover unplanned"};
}
}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(Storage& storage, Clock& clock, Rng& rng,
                                               JournalKeys keys, const Options& options) {
  HF_ASSERT(keys.vm() == options.vm);
  auto impl = std::make_unique<Impl>(storage, clock, rng, options);
  impl->sealer = std::make_unique<Sealer>(std::move(keys));
  KeyedRecovery visitor(storage, impl->index, *impl->sealer);
  Recovered recovered = TRY_CONTEXT(
      recover(storage, options.vm, impl->sealer->keys().public_key(), options.log, &visitor),
      "open the journal");
  Status may = check_line(recovered.line, options);
  if (may.ok() && visitor.through().value_or(Horizon{}) != recovered.manifest.horizon) {
    may = corrupt(
        "open the journal: MANIFEST: where the segments begin differs from the newest base");
  }
  if (!may.ok()) {
    close_files(storage, recovered);
    return std::move(may).error();
  }
  impl->start(std::move(recovered), visitor.base_keys());
  if (options.known_durable) TRY(check_fresh(impl->published->feed, *options.known_durable));
  TRY_CONTEXT(impl->log->make_inherited_durable(), "make the inherited journal durable");
  TRY_CONTEXT(impl->begin_incarnation(), "open an incarnation");
  return std::unique_ptr<Journal>(new Journal(std::move(impl)));
}

}  // namespace hf::journal
