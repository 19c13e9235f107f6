#include "journal/log/manifest_writer.h"

#include <utility>

#include "journal/format/manifest.h"

namespace hf::journal {

void ManifestWriter::store(Bytes encoded, Completion& done) {
  HF_ASSERT(!busy());
  bytes_ = std::move(encoded);
  done_ = &done;
  issue(Step::kCreate);
}

void ManifestWriter::issue(Step step) {
  step_ = step;
  switch (step) {
    case Step::kCreate:
      file_ = storage_.create(kManifestNewName, *this);
      return;
    case Step::kWrite:
      return storage_.write(file_, 0, bytes_, *this);
    case Step::kSync:
      return storage_.sync(file_, *this);
    case Step::kNames:
    case Step::kNamesAgain:
      return storage_.sync_names(*this);
    case Step::kRename:
      return storage_.move(kManifestNewName, kManifestName, *this);
  }
}

void ManifestWriter::on_complete(Status status) {
  HF_ASSERT(busy());
  const bool file_done = step_ == Step::kSync || (step_ < Step::kSync && !status.ok());
  if (file_done) static_cast<void>(storage_.close(file_).ok());
  if (status.ok() && step_ != Step::kNamesAgain) {
    return issue(static_cast<Step>(static_cast<uint8_t>(step_) + 1));
  }
  if (!status.ok()) status = std::move(status).error().context(kManifestName);
  std::exchange(done_, nullptr)->on_complete(std::move(status));
}

}  // namespace hf::journal
