// SeedStaging: a seed's files as they come in, under names that nothing counts on, each checked
// against its signed footer; then all of them made the journal by one rename of MANIFEST.
#pragma once

#include "journal/ship/seed.h"

namespace hf::journal {

class SeedStaging {
 public:
  SeedStaging(Storage& storage, SeedDescription seed)
      : storage_(storage), seed_(std::move(seed)), total_(seed_.bytes()) {}
  SeedStaging(const SeedStaging&) = delete;
  SeedStaging& operator=(const SeedStaging&) = delete;

  // All of these block.
  Status begin();
  // kCorrupt: a digest or the footer differs; nothing more may be appended after an error.
  Status append(ByteSpan bytes);
  // Gives the files the names of bases, and stores `manifest` (the replica's until now) with them.
  Status install(Manifest manifest);
  void abandon();  // best effort: what stays is removed by the next opening

  uint64_t taken() const { return taken_; }
  uint64_t total() const { return total_; }

 private:
  Status next_file();
  Status take(ByteSpan bytes);  // of the current file, all within one part of it
  Status end_file();

  Storage& storage_;
  const SeedDescription seed_;
  const uint64_t total_;
  uint64_t taken_ = 0;
  size_t current_ = 0;  // base
  std::optional<FileId> file_;
  uint64_t at_ = 0;        // in the current file
  uint64_t unsynced_ = 0;  // bytes
  crypto::Sha256 hash_;    // of the part that is coming in
};

}  // namespace hf::journal
