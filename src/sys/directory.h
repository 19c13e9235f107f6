// One directory of flat-named files: the control path that both real storages share.
//
// Everything goes through the directory's descriptor (openat, O_NOFOLLOW, O_CLOEXEC), so that a
// path that is renamed or replaced later changes nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/storage.h"
#include "sys/fd.h"

namespace hf::sys {

// Letters, digits, '.', '_', '-'; at most 255; no leading dot.
bool is_flat_name(std::string_view name);

// Opens a directory that is ours alone: kPermission if its owner is another user or its mode grants
// anything to group or others.
Result<UniqueFd> open_private_directory(const std::string& path);

class DirectoryStorage : public Storage {
 public:
  Result<FileId> open(std::string_view name, OpenMode mode) override;
  Status close(FileId file) override;
  Result<uint64_t> size(FileId file) override;
  Status truncate(FileId file, uint64_t size) override;
  Status remove(std::string_view name) override;
  Status rename(std::string_view from, std::string_view to) override;
  Result<std::vector<std::string>> list() override;
  // What all files take on the disk, holes left out.
  Result<uint64_t> stored_bytes();
  Status sync_directory() override;
  Status read_now(FileId file, uint64_t offset, MutableByteSpan to) override;
  Status write_now(FileId file, uint64_t offset, ByteSpan from) override;
  Status sync_now(FileId file) override;

 protected:
  explicit DirectoryStorage(UniqueFd directory) : directory_(std::move(directory)) {}

  int directory() const { return directory_.get(); }
  int descriptor(FileId file) const;
  // An id for a file that is still being made, with one operation under way; then what became of
  // it.
  FileId promise();
  void keep(FileId file, UniqueFd fd);  // no descriptor: it was not made
  int in_flight_descriptor(FileId file) { return at(file).fd.get(); }  // also of a closing file
  void begin(FileId file);  // an operation is under way: the descriptor stays open until end()
  void end(FileId file);

 private:
  struct File {
    UniqueFd fd;
    uint32_t operations = 0;
    bool used = false;
    bool closing = false;  // closed by the owner, kept for the operations under way
  };
  File& at(FileId file);
  FileId free_id();

  UniqueFd directory_;
  std::vector<File> files_;  // by id - 1; closed ones are used again
};

// Blocking underneath; completions are handed out by drain(). For owners without a ring (the
// daemon's replica journals run on its worker threads).
class PosixStorage final : public DirectoryStorage {
 public:
  static Result<std::unique_ptr<PosixStorage>> open_directory(const std::string& path);

  void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) override;
  void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) override;
  void sync(FileId file, Completion& done) override;
  FileId create(std::string_view name, Completion& done) override;
  void unlink(std::string_view name, Completion& done) override;
  void move(std::string_view from, std::string_view to, Completion& done) override;
  void sync_names(Completion& done) override;

  // Calls the completions of what was asked for so far, and of what they ask for in turn.
  void drain();
  bool idle() const { return finished_.empty(); }

 private:
  using DirectoryStorage::DirectoryStorage;
  struct Finished {
    Completion* done;
    Status status;
  };
  std::vector<Finished> finished_;
};

}  // namespace hf::sys
