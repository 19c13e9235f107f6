#include "cli/core/input.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "sys/fd.h"

namespace hf::cli {
namespace {

Result<Bytes> read_all(int fd, size_t bytes_max, const std::string& name) {
  Bytes bytes;
  std::array<std::byte, 65536> chunk;
  for (;;) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error(errno, "read " + name);
    if (got == 0) return bytes;
    if (bytes.size() + static_cast<size_t>(got) > bytes_max) {
      return Error{.code = ErrorCode::kLimit,
                   .cause = name + " is longer than " + std::to_string(bytes_max) + " bytes"};
    }
    bytes.insert(bytes.end(), chunk.begin(), chunk.begin() + got);
  }
}

}  // namespace

Result<Bytes> read_input(const std::string& path, size_t bytes_max) {
  if (path == "-") return read_all(STDIN_FILENO, bytes_max, "standard input");
  const sys::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error(errno, "open " + path);
  return read_all(file.get(), bytes_max, path);
}

std::string trimmed_text(const Bytes& bytes) {
  std::string text(as_text(bytes));
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  return text;
}

}  // namespace hf::cli
