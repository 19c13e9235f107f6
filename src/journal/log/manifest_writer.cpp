#include "journal/log/manifest_writer.h"

#include <algorithm>
#include <utility>

namespace hf::journal {

ManifestWriter::~ManifestWriter() {
  if (file_) static_cast<void>(storage_.close(*file_).ok());
}

Status ManifestWriter::begin(const ManifestStore& snapshot) {
  HF_ASSERT(!busy() && !file_);
  file_ = TRY_CONTEXT(storage_.open(kManifestName, OpenMode::kReadWrite), kManifestName);
  snapshot_size_ = end_ = snapshot.bytes.size();
  stored_ = snapshot.state;
  return {};
}

void ManifestWriter::store(Manifest next, Form form, Completion& done) {
  HF_ASSERT(!busy() && file_);
  done_ = &done;
  std::optional<ManifestStore> edit;
  if (form == Form::kShortest) edit = edit_between(stored_, next);
  const uint64_t edits = end_ - snapshot_size_ + (edit ? edit->bytes.size() : 0);
  if (edit && edits <= std::max<uint64_t>(kManifestEditsMin, snapshot_size_)) {
    const bool names_first = lists_new_files(stored_, next);
    storing_ = std::move(*edit);
    return issue(names_first ? Step::kEditNames : Step::kAppend);
  }
  next.generation = stored_.generation;
  next.last_store = stored_.last_store;
  storing_ = snapshot_of(std::move(next));
  issue(Step::kCreate);
}

void ManifestWriter::issue(Step step) {
  step_ = step;
  switch (step) {
    case Step::kAppend:
      return storage_.write(*file_, end_, storing_.bytes, *this);
    case Step::kSyncEdit:
      return storage_.sync(*file_, *this);
    case Step::kCreate:
      new_file_ = storage_.create(kManifestNewName, *this);
      return;
    case Step::kWrite:
      return storage_.write(*new_file_, 0, storing_.bytes, *this);
    case Step::kSync:
      return storage_.sync(*new_file_, *this);
    case Step::kEditNames:
    case Step::kNames:
    case Step::kNamesAgain:
      return storage_.sync_names(*this);
    case Step::kRename:
      return storage_.move(kManifestNewName, kManifestName, *this);
  }
}

void ManifestWriter::finish() {
  HF_ASSERT(storing_.state.generation == stored_.generation + 1);
  if (new_file_) {
    static_cast<void>(storage_.close(*file_).ok());  // nothing in it counts any more
    file_ = std::exchange(new_file_, std::nullopt);
    snapshot_size_ = end_ = storing_.bytes.size();
  } else {
    end_ += storing_.bytes.size();
  }
  stored_ = std::move(storing_.state);
}

void ManifestWriter::on_complete(Status status) {
  HF_ASSERT(busy());
  if (!status.ok()) {
    if (new_file_) static_cast<void>(storage_.close(*std::exchange(new_file_, {})).ok());
    status = std::move(status).error().context(kManifestName);
  } else if (step_ != Step::kSyncEdit && step_ != Step::kNamesAgain) {
    return issue(static_cast<Step>(static_cast<uint8_t>(step_) + 1));
  } else {
    finish();
  }
  std::exchange(done_, nullptr)->on_complete(std::move(status));
}

}  // namespace hf::journal
