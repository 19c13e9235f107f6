// Storage over the reactor: what the keeper's journal runs on.
#pragma once

#include <deque>

#include "sys/directory.h"
#include "sys/reactor.h"

namespace hf::sys {

class UringStorage final : public DirectoryStorage {
 public:
  // The directory must be ours alone (open_private_directory).
  static Result<std::unique_ptr<UringStorage>> open_directory(Reactor& reactor,
                                                              const std::string& path);
  // Nothing may be under way.
  ~UringStorage() override;

  void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) override;
  void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) override;
  void sync(FileId file, Completion& done) override;
  FileId create(std::string_view name, Completion& done) override;
  void unlink(std::string_view name, Completion& done) override;
  void move(std::string_view from, std::string_view to, Completion& done) override;
  void sync_names(Completion& done) override;

  size_t operations_in_flight() const { return in_flight_; }

 private:
  // One read, write or sync until it is whole: the kernel may do it in parts.
  class Transfer final : public Operation {
   public:
    enum class Kind { kRead, kWrite, kSync };
    void on_result(int32_t result) override;

    UringStorage* storage = nullptr;
    Completion* done = nullptr;
    FileId file;
    Kind kind = Kind::kRead;
    uint64_t offset = 0;
    std::byte* data = nullptr;
    size_t left = 0;
    Transfer* next_free = nullptr;
  };
  // One change of the names in the directory.
  class NameChange final : public Operation {
   public:
    enum class Kind { kCreate, kUnlink, kMove, kSync };
    void on_result(int32_t result) override;

    UringStorage* storage = nullptr;
    Completion* done = nullptr;
    Kind kind = Kind::kSync;
    FileId file;  // of kCreate
    std::string name;
    std::string new_name;
    NameChange* next_free = nullptr;
  };

  UringStorage(Reactor& reactor, UniqueFd directory)
      : DirectoryStorage(std::move(directory)), reactor_(reactor) {}
  Transfer& take(FileId file, Transfer::Kind kind, Completion& done);
  void issue(Transfer& transfer);
  void finish(Transfer& transfer, Status status);
  NameChange& take(NameChange::Kind kind, std::string_view name, Completion& done);
  void issue(NameChange& change);
  void finish(NameChange& change, Status status);

  Reactor& reactor_;
  std::deque<Transfer> transfers_;  // grows to the most ever in flight, then is used again
  Transfer* free_ = nullptr;
  std::deque<NameChange> changes_;  // as transfers_
  NameChange* free_changes_ = nullptr;
  size_t in_flight_ = 0;
};

}  // namespace hf::sys
