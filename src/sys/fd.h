// File descriptors as values, and anonymous files.
#pragma once

#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::sys {

// Owns one descriptor; closes it when it goes.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  Result<UniqueFd> duplicate() const;  // close-on-exec

 private:
  int fd_ = -1;
};

// A file in memory, close-on-exec, holding `content`, sealed against any change, read from its
// start.
Result<UniqueFd> sealed_memfd(const char* name, ByteSpan content);
// An empty file in memory, close-on-exec, to be sized, sealed, written and mapped by whoever gets
// it.
Result<UniqueFd> memory_file(const char* name);
// The whole of a file of at most `limit` bytes, from its start; the file position does not matter.
Result<Bytes> read_all(int fd, size_t limit);
// Blocking, whole: short counts and EINTR handled.
Status write_all(int fd, ByteSpan bytes);
Status pread_exact(int fd, uint64_t offset, MutableByteSpan to);  // short: kCorrupt
Status pwrite_all(int fd, uint64_t offset, ByteSpan from);

// Whether accept() failed for want of descriptors or memory: the listener stays readable, so
// whoever polls it has to pause.
bool is_exhausted(int error_number);

Status set_nonblocking(int fd, bool nonblocking);
Status set_close_on_exec(int fd, bool close_on_exec);

}  // namespace hf::sys
