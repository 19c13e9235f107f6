// A StateStore in one file of a directory: written beside, synced, renamed, directory synced. For
// the stand-alone server and tests; the keeper commits to its journal instead. Not sealed: the
// TPM's secrets stand in the file in clear.
#pragma once

#include <optional>
#include <string>

#include "vtpm/engine.h"

namespace hf::vtpm {

class FileStateStore final : public StateStore {
 public:
  explicit FileStateStore(std::string directory) : directory_(std::move(directory)) {}
  Status commit(ByteSpan state_blob) override;
  // Nothing if none was ever committed.
  Result<std::optional<Bytes>> load() const;
  uint64_t commits() const { return commits_; }

 private:
  std::string directory_;
  uint64_t commits_ = 0;
};

}  // namespace hf::vtpm
