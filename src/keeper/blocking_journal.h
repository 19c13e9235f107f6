// A journal without a reactor: for mode `create`, where nobody waits and one thing follows another.
#pragma once

#include <memory>

#include "journal/journal.h"
#include "sys/directory.h"
#include "sys/system_clock.h"

namespace hf::keeper {

class BlockingJournal {
 public:
  static Result<std::unique_ptr<BlockingJournal>> create(const std::string& directory, Rng& rng,
                                                         journal::JournalKeys keys,
                                                         const journal::Options& options);

  // `data` of any length. Returns when it was taken; flush() or close() tell whether it arrived.
  Status write(VolumeId volume, uint64_t offset, ByteSpan data);
  Status read(VolumeId volume, uint64_t offset, MutableByteSpan to);
  Status flush();
  Status close();
  journal::LineEnd durable_end() const { return journal_->durable_end(); }

 private:
  explicit BlockingJournal(std::unique_ptr<sys::PosixStorage> storage)
      : storage_(std::move(storage)) {}
  void turn();

  sys::SystemClock clock_;
  std::unique_ptr<sys::PosixStorage> storage_;  // outlives the journal
  std::unique_ptr<journal::Journal> journal_;
};

}  // namespace hf::keeper
