#include "sys/fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

namespace hf::sys {

Result<UniqueFd> UniqueFd::duplicate() const {
  int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return errno_error(errno, "duplicate a descriptor");
  return UniqueFd(copy);
}

Result<UniqueFd> sealed_memfd(const char* name, ByteSpan content) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return errno_error(errno, "create a file in memory");
  TRY(pwrite_all(fd.get(), 0, content));
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) !=
      0) {
    return errno_error(errno, "seal a file in memory");
  }
  return fd;
}

Result<UniqueFd> memory_file(const char* name) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return errno_error(errno, "create a file in memory");
  return fd;
}

Result<Bytes> read_all(int fd, size_t limit) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errno_error(errno, "stat a file");
  if (info.st_size < 0 || static_cast<uint64_t>(info.st_size) > limit) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "file larger than " + std::to_string(limit) + " bytes"};
  }
  Bytes content(static_cast<size_t>(info.st_size));
  TRY(pread_exact(fd, 0, content));
  return content;
}

Status write_all(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "write");
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status pread_exact(int fd, uint64_t offset, MutableByteSpan to) {
  while (!to.empty()) {
    ssize_t count = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "read");
    }
    if (count == 0) return Error{.code = ErrorCode::kCorrupt, .cause = "file ends early"};
    to = to.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return {};
}

Status pwrite_all(int fd, uint64_t offset, ByteSpan from) {
  while (!from.empty()) {
    ssize_t count = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "write");
    }
    from = from.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return {};
}

namespace {
Status change_flag(int fd, int get, int set, int flag, bool on) {
  int flags = ::fcntl(fd, get);
  if (flags < 0 || ::fcntl(fd, set, on ? flags | flag : flags & ~flag) != 0) {
    return errno_error(errno, "set descriptor flags");
  }
  return {};
}
}  // namespace

bool is_exhausted(int error_number) {
  return error_number == EMFILE || error_number == ENFILE || error_number == ENOMEM ||
         error_number == ENOBUFS;
}

Status set_nonblocking(int fd, bool nonblocking) {
  return change_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, nonblocking);
}
Status set_close_on_exec(int fd, bool close_on_exec) {
  return change_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, close_on_exec);
}

}  // namespace hf::sys
