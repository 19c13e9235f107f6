#include "sys/uring_storage.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace hf::sys {
namespace {
constexpr size_t kTransferBytesMax = size_t{1} << 30;  // of one kernel request
}

Result<std::unique_ptr<UringStorage>> UringStorage::open_directory(Reactor& reactor,
                                                                   const std::string& path) {
  UniqueFd directory = TRY(open_private_directory(path));
  return std::unique_ptr<UringStorage>(new UringStorage(reactor, std::move(directory)));
}

UringStorage::~UringStorage() { HF_ASSERT(in_flight_ == 0); }

UringStorage::Transfer& UringStorage::take(FileId file, Transfer::Kind kind, Completion& done) {
  if (free_ == nullptr) {
    Transfer& fresh = transfers_.emplace_back();
    fresh.storage = this;
    free_ = &fresh;
  }
  Transfer& transfer = *free_;
  free_ = transfer.next_free;
  transfer.next_free = nullptr;
  transfer.file = file;
  transfer.kind = kind;
  transfer.done = &done;
  begin(file);
  ++in_flight_;
  return transfer;
}

void UringStorage::read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) {
  Transfer& transfer = take(file, Transfer::Kind::kRead, done);
  transfer.offset = offset;
  transfer.data = to.data();
  transfer.left = to.size();
  issue(transfer);
}

void UringStorage::write(FileId file, uint64_t offset, ByteSpan from, Completion& done) {
  Transfer& transfer = take(file, Transfer::Kind::kWrite, done);
  transfer.offset = offset;
  transfer.data = const_cast<std::byte*>(from.data());  // the kernel only reads it
  transfer.left = from.size();
  issue(transfer);
}

void UringStorage::sync(FileId file, Completion& done) {
  issue(take(file, Transfer::Kind::kSync, done));
}

void UringStorage::issue(Transfer& transfer) {
  int fd = in_flight_descriptor(transfer.file);
  size_t size = std::min(transfer.left, kTransferBytesMax);
  switch (transfer.kind) {
    case Transfer::Kind::kRead:
      reactor_.read(fd, transfer.offset, {transfer.data, size}, transfer);
      break;
    case Transfer::Kind::kWrite:
      reactor_.write(fd, transfer.offset, {transfer.data, size}, transfer);
      break;
    case Transfer::Kind::kSync:
      reactor_.sync_data(fd, transfer);
      break;
  }
}

void UringStorage::Transfer::on_result(int32_t result) {
  if (result == -EINTR || result == -EAGAIN) return storage->issue(*this);
  if (result < 0) {
    static constexpr const char* kDoing[] = {"read a file", "write a file", "sync a file"};
    return storage->finish(*this, errno_error(-result, kDoing[static_cast<size_t>(kind)]));
  }
  if (kind == Kind::kSync) return storage->finish(*this, {});
  if (result == 0 && left > 0) {
    if (kind == Kind::kWrite) return storage->finish(*this, errno_error(EIO, "write a file"));
    return storage->finish(*this, Error{.code = ErrorCode::kCorrupt, .cause = "file ends early"});
  }
  auto count = static_cast<size_t>(result);
  HF_ASSERT(count <= left);
  data += count;
  offset += count;
  left -= count;
  if (left > 0) return storage->issue(*this);
  storage->finish(*this, {});
}

void UringStorage::finish(Transfer& transfer, Status status) {
  Completion& done = *transfer.done;
  end(transfer.file);
  --in_flight_;
  transfer.done = nullptr;
  transfer.next_free = free_;
  free_ = &transfer;
  done.on_complete(std::move(status));
}

UringStorage::NameChange& UringStorage::take(NameChange::Kind kind, std::string_view name,
                                             Completion& done) {
  if (free_changes_ == nullptr) {
    NameChange& fresh = changes_.emplace_back();
    fresh.storage = this;
    free_changes_ = &fresh;
  }
  NameChange& change = *free_changes_;
  free_changes_ = std::exchange(change.next_free, nullptr);
  HF_ASSERT(kind == NameChange::Kind::kSync || is_flat_name(name));
  change.kind = kind;
  change.name = name;
  change.done = &done;
  ++in_flight_;
  return change;
}

FileId UringStorage::create(std::string_view name, Completion& done) {
  NameChange& change = take(NameChange::Kind::kCreate, name, done);
  change.file = promise();
  issue(change);
  return change.file;
}

void UringStorage::unlink(std::string_view name, Completion& done) {
  issue(take(NameChange::Kind::kUnlink, name, done));
}

void UringStorage::move(std::string_view from, std::string_view to, Completion& done) {
  NameChange& change = take(NameChange::Kind::kMove, from, done);
  HF_ASSERT(is_flat_name(to));
  change.new_name = to;
  issue(change);
}

void UringStorage::sync_names(Completion& done) { issue(take(NameChange::Kind::kSync, {}, done)); }

void UringStorage::issue(NameChange& change) {
  switch (change.kind) {
    case NameChange::Kind::kCreate:
      return reactor_.create_file(directory(), change.name.c_str(), change);
    case NameChange::Kind::kUnlink:
      return reactor_.unlink_file(directory(), change.name.c_str(), change);
    case NameChange::Kind::kMove:
      return reactor_.rename_file(directory(), change.name.c_str(), change.new_name.c_str(),
                                  change);
    case NameChange::Kind::kSync:
      return reactor_.sync_all(directory(), change);
  }
}

void UringStorage::NameChange::on_result(int32_t result) {
  // Not tried again after -EINTR: half of a rename that is done would fail the second time.
  UniqueFd made(kind == Kind::kCreate && result >= 0 ? result : -1);
  if (kind == Kind::kCreate) storage->keep(file, std::move(made));
  if (result >= 0) return storage->finish(*this, {});
  static constexpr const char* kDoing[] = {"create ", "remove ", "rename ", "sync a directory"};
  storage->finish(*this, errno_error(-result, kDoing[static_cast<size_t>(kind)] + name));
}

void UringStorage::finish(NameChange& change, Status status) {
  Completion& done = *std::exchange(change.done, nullptr);
  --in_flight_;
  change.next_free = std::exchange(free_changes_, &change);
  done.on_complete(std::move(status));
}

}  // namespace hf::sys
