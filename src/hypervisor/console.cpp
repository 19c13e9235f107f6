#include "hypervisor/console.h"

#include <algorithm>
#include <array>

#include "sys/bounded_io.h"

namespace hf::hypervisor {

using std::chrono::milliseconds;

Result<sys::UniqueFd> connect_console(const std::string& socket_path, milliseconds limit) {
  auto fd = sys::connect_unix_within(socket_path, limit);
  if (!fd.ok()) {
    return std::move(fd)
        .error()
        .with_effect("the console is not connected")
        .with_mend("holdfast vm list shows which VMs run");
  }
  return fd;
}

Result<std::string> read_console_until(int fd, const std::string& text, milliseconds limit,
                                       size_t bytes_max) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  std::string seen;
  while (seen.find(text) == std::string::npos) {
    auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    std::array<std::byte, 4096> chunk{};
    auto got = sys::receive_some(fd, chunk, std::max(left, milliseconds(0)));
    if (!got.ok() || *got == 0) {
      Error error = got.ok() ? Error{.code = ErrorCode::kUnavailable, .cause = "the VM ended"}
                             : std::move(got).error();
      size_t line = seen.find_last_of('\n', seen.size() < 2 ? 0 : seen.size() - 2);
      error.cause = "\"" + text + "\" did not come on the console: " + error.cause +
                    "; its last line: " + seen.substr(line == std::string::npos ? 0 : line + 1);
      return error;
    }
    seen += as_text(ByteSpan(chunk).first(*got));
    // What was looked at already goes; a match may span two reads.
    if (seen.size() > bytes_max) seen.erase(0, seen.size() - bytes_max);
  }
  return seen;
}

}  // namespace hf::hypervisor
