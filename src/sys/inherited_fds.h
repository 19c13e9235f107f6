// Descriptors handed down by the parent by the systemd protocol: LISTEN_PID, LISTEN_FDS,
// LISTEN_FDNAMES (sd_listen_fds(3)): numbers from 3 on, names separated by colons.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/unique_fd.h"

namespace hf::sys {

class InheritedFds {
 public:
  // Takes them over and clears the three variables; call once, at the start of main, before any
  // other thread and before anything opens a descriptor. Without LISTEN_FDS: empty. Names must be
  // unique; a count without as many names is kInvalidArgument. All become close-on-exec.
  static Result<InheritedFds> take();

  bool has(std::string_view name) const;
  // Moves it out. kNotFound names the descriptor and the program that should have passed it.
  Result<UniqueFd> get(std::string_view name);
  std::vector<std::string> names() const;  // of those not moved out yet, sorted

 private:
  std::map<std::string, UniqueFd, std::less<>> fds_;
};

// The whole of a small file behind a descriptor (a config memfd), from its start. kLimit if
// longer.
Result<std::string> read_small_file(int fd, size_t bytes_max);
// A sealed, read-only memfd with this text.
Result<UniqueFd> make_memfd(const std::string& name, std::string_view text);

}  // namespace hf::sys
