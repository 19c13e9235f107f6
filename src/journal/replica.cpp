#include "journal/replica.h"

#include "journal/format/wire.h"
#include "journal/keyless.h"
#include "journal/ship/seed_staging.h"

namespace hf::journal {

struct ReplicaJournal::Impl {
  Impl(Storage& storage_in, Clock& clock, const ReplicaOptions& options_in, Recovered recovered)
      : storage(storage_in),
        options(options_in),
        files(files_of(recovered)),
        log(storage_in, clock, options_in.log, std::move(recovered)),
        published(storage_in, log, files) {}

  bool lineage_full() const { return log.line().lineage().size() >= kLineageMax; }
  // Everything that can be known of this record without the key.
  Status check(const ScannedRecord& record) const {
    TRY(log.line().check(record.header, record.payload, options.log.faults));
    if (record.header.kind == RecordKind::kIncarnation && lineage_full()) {
      return corrupt("more incarnations than a replica keeps");
    }
    if (record.header.kind != RecordKind::kClose || options.log.faults.close_not_checked) return {};
    return check_close(record, log.summary(), log.line(), log.previous_close(), options.public_key);
  }

  Storage& storage;
  const ReplicaOptions options;
  OpenFiles files;
  RecordLog log;
  Published published;
  std::optional<SeedStaging> staging;
  bool replaced = false;
  mutable size_t counted_segments = 0;  // as of the last stored()
  mutable Stored counted;
};

ReplicaJournal::ReplicaJournal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ReplicaJournal::~ReplicaJournal() = default;

Result<std::unique_ptr<ReplicaJournal>> ReplicaJournal::create(Storage& storage, Clock& clock,
                                                               const ReplicaOptions& options) {
  Result<Manifest> found = load_manifest(storage);
  if (found.ok()) {
    return Error{.code = ErrorCode::kExists, .cause = "there is a journal in this directory"};
  }
  if (found.error().code != ErrorCode::kNotFound) return std::move(found).error();
  TRY(check_nothing_orphaned(storage));
  Recovered recovered;
  recovered.manifest = {.vm = options.vm, .public_key = options.public_key};
  recovered.line = Line(options.vm, {}, {});
  auto impl = std::make_unique<Impl>(storage, clock, options, std::move(recovered));
  TRY_CONTEXT(impl->log.make_inherited_durable(), "create the replica's journal");
  TRY_CONTEXT(impl->log.finish_opening(), "create the replica's journal");
  return std::unique_ptr<ReplicaJournal>(new ReplicaJournal(std::move(impl)));
}

Result<std::unique_ptr<ReplicaJournal>> ReplicaJournal::open(Storage& storage, Clock& clock,
                                                             const ReplicaOptions& options) {
  Recovered recovered =
      TRY_CONTEXT(recover_keyless(storage, options), "open the replica's journal");
  auto impl = std::make_unique<Impl>(storage, clock, options, std::move(recovered));
  TRY_CONTEXT(impl->log.make_inherited_durable(), "make the replica's journal durable");
  TRY_CONTEXT(impl->log.finish_opening(), "open the replica's journal");
  return std::unique_ptr<ReplicaJournal>(new ReplicaJournal(std::move(impl)));
}

Result<size_t> ReplicaJournal::append_sealed(ByteSpan records) {
  size_t taken = 0;
  while (taken < records.size() && accepting()) {
    const ScannedRecord record = TRY(parse_record(records.subspan(taken)));
    TRY(impl_->check(record));
    const size_t stored = record.header.stored_size();
    if (impl_->log.segment_with(stored) > impl_->options.log.segment_bytes_max) {
      return corrupt("the segment goes on past its largest size without a close");
    }
    const MutableByteSpan space = TRY(impl_->log.reserve(record.header.kind, stored));
    std::memcpy(space.data(), records.data() + taken, stored);
    impl_->log.commit(record.header, space);
    taken += stored;
  }
  if (impl_->log.failed() != nullptr) return *impl_->log.failed();
  HF_ASSERT(taken <= records.size());
  return taken;
}

bool ReplicaJournal::accepting() const { return impl_->log.accepting(); }

void ReplicaJournal::flush(Completion& done) {
  impl_->log.acknowledge_durable(impl_->log.line().last(), done);
}

Status ReplicaJournal::begin_seed(const SeedDescription& seed) {
  abandon_seed();
  if (impl_->log.failed() != nullptr) return *impl_->log.failed();
  const Line& line = impl_->log.line();
  const LineEnd end = seed.through().end;
  if (end.position.sequence <= line.last() ||
      !contains(seed.lineage, end.position.sequence, line.end().position) ||
      seed.lineage.back().body.epoch < line.epoch()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the seed does not continue the line this replica is on"};
  }
  impl_->staging.emplace(impl_->storage, seed);
  Status begun = impl_->staging->begin();
  if (!begun.ok()) abandon_seed();
  return begun;
}

Status ReplicaJournal::append_seed(ByteSpan bytes) {
  HF_ASSERT(impl_->staging.has_value());
  return impl_->staging->append(bytes);
}

void ReplicaJournal::abandon_seed() {
  if (impl_->staging) impl_->staging->abandon();
  impl_->staging.reset();
}

uint64_t ReplicaJournal::seed_taken() const { return impl_->staging ? impl_->staging->taken() : 0; }
uint64_t ReplicaJournal::seed_total() const { return impl_->staging ? impl_->staging->total() : 0; }
// Files are asked for their size only when there is another one.
ReplicaJournal::Stored ReplicaJournal::stored() const {
  const RecordLog& log = impl_->log;
  if (impl_->counted_segments != log.closed().size()) {
    impl_->counted_segments = log.closed().size();
    impl_->counted = {};
    for (const Segment& segment : log.closed()) {
      const uint64_t used = segment.closed ? segment.closed_size() : 0;
      const Result<uint64_t> size = impl_->storage.size(segment.file);
      const uint64_t there = std::max(used, size.ok() ? *size : impl_->options.log.segment_bytes);
      impl_->counted.bytes += there;
      if (there > used + impl_->options.log.segment_bytes / 4)  // else it is kept as it is
        impl_->counted.cut_at_opening += there - used;
    }
  }
  Stored stored = impl_->counted;
  stored.bytes += log.open_end() + seed_taken();
  for (const BaseEntry& base : log.manifest().bases)
    stored.bytes += base.table_offset + base.table_entries * kExtentEntrySize;
  return stored;
}
bool ReplicaJournal::replaced() const { return impl_->replaced; }

Status ReplicaJournal::finish_seed() {
  HF_ASSERT(impl_->staging.has_value() && impl_->staging->taken() == impl_->staging->total());
  HF_ASSERT(idle());
  if (impl_->log.failed() != nullptr) return *impl_->log.failed();
  // From here on this object must not store its MANIFEST over the new one.
  impl_->replaced = true;
  Manifest manifest = impl_->log.manifest();
  impl_->log.fail({.code = ErrorCode::kUnavailable, .cause = "the replica was seeded anew"});
  Status installed = impl_->staging->install(std::move(manifest));
  impl_->staging.reset();
  return installed;
}

void ReplicaJournal::read_sealed(const Position& after, size_t max_bytes, SealedRead& done) {
  impl_->published.feed.read_sealed(after, max_bytes, done);
}

Result<LineMatch> ReplicaJournal::locate(const LineEnd& peer) {
  return impl_->published.feed.locate(peer);
}
Result<Bytes> ReplicaJournal::describe_seed() { return impl_->published.seed.describe(); }
void ReplicaJournal::read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) {
  impl_->published.seed.read(base, offset, length, done);
}

void ReplicaJournal::tick() { impl_->log.tick(); }
Micros ReplicaJournal::next_deadline() const { return impl_->log.next_deadline(); }

LineEnd ReplicaJournal::end() const { return impl_->log.line().end(); }
LineEnd ReplicaJournal::durable_end() const { return impl_->log.durable().end; }
const Lineage& ReplicaJournal::lineage() const { return impl_->log.line().lineage(); }
Epoch ReplicaJournal::epoch() const { return impl_->log.line().epoch(); }
Micros ReplicaJournal::durable_time() const { return impl_->log.durable().time; }
const Error* ReplicaJournal::failed() const { return impl_->log.failed(); }
bool ReplicaJournal::idle() const { return impl_->log.idle() && !impl_->published.busy(); }

}  // namespace hf::journal
