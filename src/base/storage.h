// Storage: one directory of flat-named files, as the sans-I/O core sees it.
//
// Two halves. The control path blocks: it is for opening and recovery, before anybody is served.
// The data path returns at once; its Completion is called later, from the owner's event loop, never
// from inside the call. What is under way on the data path completes in any order: who needs one
// thing after another issues it from the first one's completion.
//
// Guarantees, the ones of POSIX and no more: bytes are durable once a sync issued after their
// write's completion has completed; a name (its creation, change or end) once a sync of the
// directory, issued after that change's completion, has completed. After a crash
// each unsynced 512-byte sector holds the old or the new bytes, in any mixture. A failed sync is
// final: what it covered may be lost even if a later sync succeeds.
//
// Not thread-safe: one thread owns a Storage.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace hf {

using FileId = StrongNumber<struct FileTag, uint32_t>;

class Completion {
 public:
  virtual void on_complete(Status status) = 0;

 protected:
  ~Completion() = default;
};

enum class OpenMode {
  kRead,
  kReadWrite,
  kCreate,  // must not exist
};

class Storage {
 public:
  virtual ~Storage() = default;

  // Control path. close() waits for nothing: what is under way on the file still completes.
  virtual Result<FileId> open(std::string_view name, OpenMode mode) = 0;
  virtual Status close(FileId file) = 0;
  virtual Result<uint64_t> size(FileId file) = 0;
  virtual Status truncate(FileId file, uint64_t size) = 0;  // grows with zeroes too
  virtual Status remove(std::string_view name) = 0;
  virtual Status rename(std::string_view from, std::string_view to) = 0;  // replaces
  virtual Result<std::vector<std::string>> list() = 0;                    // sorted
  virtual Status sync_directory() = 0;
  virtual Status read_now(FileId file, uint64_t offset,
                          MutableByteSpan to) = 0;  // short read: kCorrupt
  virtual Status write_now(FileId file, uint64_t offset, ByteSpan from) = 0;
  virtual Status sync_now(FileId file) = 0;

  // Data path. Spans must stay valid until the completion.
  virtual void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) = 0;
  virtual void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) = 0;
  virtual void sync(FileId file, Completion& done) = 0;

  // Data path, names: open() with kCreate, remove(), rename() and sync_directory() without the
  // wait. The id that create() gives may be used once it completed; if it failed, close() gives it
  // back.
  virtual FileId create(std::string_view name, Completion& done) = 0;
  virtual void unlink(std::string_view name, Completion& done) = 0;
  virtual void move(std::string_view from, std::string_view to, Completion& done) = 0;
  virtual void sync_names(Completion& done) = 0;
};

}  // namespace hf
