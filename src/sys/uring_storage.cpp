#include "sys/uring_storage.h"

#include <algorithm>
#include <cerrno>

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

}  // namespace hf::sys
