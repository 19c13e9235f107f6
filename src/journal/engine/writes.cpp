#include "journal/engine/writes.h"

namespace hf::journal {

Task<Status> FileWriter::create() {
  FileId file;
  CO_TRY_CONTEXT(
      co_await StorageWait([&](Completion& done) { file = storage_.create(name_, done); }), name_);
  file_ = file;
  unlisted_.push_back({.file = file, .name = name_});
  co_return Status();
}

Task<Status> FileWriter::flush() {
  if (pending_.empty()) co_return Status();
  const Bytes bytes = std::exchange(pending_, {});
  const uint64_t at = end_ - bytes.size();
  CO_TRY_CONTEXT(
      co_await StorageWait([&](Completion& done) { storage_.write(*file_, at, bytes, done); }),
      name_);
  co_return Status();
}

Task<Status> FileWriter::sync(bool skipped) {
  if (skipped) co_return Status();
  CO_TRY_CONTEXT(co_await StorageWait([&](Completion& done) { storage_.sync(*file_, done); }),
                 name_);
  co_return Status();
}

FilePtr FileWriter::file() const {
  return std::make_shared<EngineFile>(
      EngineFile{.id = number_, .file = *file_, .name = name_, .length = end_});
}

}  // namespace hf::journal
