#include "keeper/blocking_journal.h"
#include "keeper/waiter.h"

#include <algorithm>

namespace hf::keeper {
Result<std::unique_ptr<BlockingJournal>> BlockingJournal::create(const std::string& directory,
                                                                 Rng& rng,
                                                                 journal::JournalKeys keys,
                                                                 const journal::Options& options) {
  auto self = std::unique_ptr<BlockingJournal>(
      new BlockingJournal(TRY(sys::PosixStorage::open_directory(directory))));
  self->journal_ =
      TRY(journal::Journal::create(*self->storage_, self->clock_, rng, std::move(keys), options));
  return self;
}

void BlockingJournal::turn() {
  storage_->drain();
  if (journal_->next_deadline() <= clock_.monotonic()) journal_->tick();
}

Status BlockingJournal::write(VolumeId volume, uint64_t offset, ByteSpan data) {
  while (!data.empty()) {
    while (!journal_->accepting()) {
      if (journal_->failed() != nullptr) return Error(*journal_->failed());
      turn();
    }
    const ByteSpan part = data.first(std::min(data.size(), journal::kRecordDataMax));
    TRY(journal_->write(volume, offset, part, nullptr));
    offset += part.size();
    data = data.subspan(part.size());
    turn();
  }
  return {};
}

Status BlockingJournal::read(VolumeId volume, uint64_t offset, MutableByteSpan to) {
  Waiter waiter;
  journal_->read(volume, offset, to, waiter);
  while (!waiter.done) turn();
  return std::move(waiter.result);
}

Status BlockingJournal::flush() {
  // A flush covers what is appended, so everything taken is appended first.
  while (journal_->status().appended < journal_->status().accepted) {
    if (journal_->failed() != nullptr) return Error(*journal_->failed());
    turn();
  }
  Waiter waiter;
  journal_->flush(waiter);
  while (!waiter.done) turn();
  return std::move(waiter.result);
}

Status BlockingJournal::close() {
  Waiter waiter;
  journal_->close(waiter);
  while (!waiter.done) turn();
  while (!journal_->idle()) turn();
  return std::move(waiter.result);
}

}  // namespace hf::keeper
