#include "journal/sealed.h"

#include "journal/format/wire.h"
#include "journal/keyless.h"

namespace hf::journal {

struct SealedJournal::Impl {
  Impl(Storage& storage, Clock& clock, const LogOptions& options, Recovered recovered)
      : files(files_of(recovered)),
        log(storage, clock, options, std::move(recovered)),
        published(storage, log, files) {}

  OpenFiles files;
  RecordLog log;
  Published published;
};

SealedJournal::SealedJournal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SealedJournal::~SealedJournal() = default;

Result<std::unique_ptr<SealedJournal>> SealedJournal::open(Storage& storage, Clock& clock,
                                                           const ReplicaOptions& options) {
  Recovered recovered =
      TRY_CONTEXT(recover_keyless(storage, options), "open the journal without its key");
  LogOptions log_options = options.log;
  log_options.prepare_next = false;
  auto impl = std::make_unique<Impl>(storage, clock, log_options, std::move(recovered));
  TRY_CONTEXT(impl->log.make_inherited_durable(), "make the journal durable");
  TRY_CONTEXT(impl->log.finish_opening(), "open the journal without its key");
  return std::unique_ptr<SealedJournal>(new SealedJournal(std::move(impl)));
}

void SealedJournal::read_sealed(const Position& after, size_t max_bytes, SealedRead& done) {
  impl_->published.feed.read_sealed(after, max_bytes, done);
}
Result<LineMatch> SealedJournal::locate(const LineEnd& peer) {
  return impl_->published.feed.locate(peer);
}
Result<Bytes> SealedJournal::describe_seed() { return impl_->published.seed.describe(); }
void SealedJournal::read_seed(uint64_t base, uint64_t offset, size_t length, SealedRead& done) {
  impl_->published.seed.read(base, offset, length, done);
}

void SealedJournal::tick() { impl_->log.tick(); }
Micros SealedJournal::next_deadline() const { return impl_->log.next_deadline(); }

LineEnd SealedJournal::durable_end() const { return impl_->log.durable().end; }
LineEnd SealedJournal::vouched_end() const {
  if (impl_->log.closed().empty()) return impl_->log.manifest().horizon.end;
  const ClosedSegment& last = *impl_->log.closed().back().closed;
  return {.position = {.incarnation = last.incarnation, .sequence = last.last},
          .chain = last.chain};
}
Micros SealedJournal::durable_time() const { return impl_->log.durable().time; }
const Lineage& SealedJournal::lineage() const { return impl_->log.line().lineage(); }
Epoch SealedJournal::epoch() const { return impl_->log.line().epoch(); }
bool SealedJournal::idle() const { return impl_->log.idle() && !impl_->published.busy(); }

}  // namespace hf::journal
