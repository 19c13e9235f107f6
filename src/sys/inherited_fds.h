// Descriptors handed down by name: sd_listen_fds(3), LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"

namespace hf::sys {

class InheritedFds {
 public:
  InheritedFds() = default;
  explicit InheritedFds(std::multimap<std::string, UniqueFd, std::less<>> fds)
      : fds_(std::move(fds)) {}

  // Hands over the descriptor of that name; kNotFound names what is missing.
  Result<UniqueFd> take(std::string_view name);
  bool has(std::string_view name) const { return fds_.find(name) != fds_.end(); }
  std::vector<std::string> names() const;
  size_t size() const { return fds_.size(); }

 private:
  std::multimap<std::string, UniqueFd, std::less<>> fds_;
};

// Takes what this process was given: removes the three variables, sets close-on-exec on each. None
// if LISTEN_PID is not us or absent. Call once, before any thread starts.
Result<InheritedFds> take_inherited_fds();

// For the giving side: the environment variables' values. LISTEN_PID is the child's own pid, hence
// set between fork and exec.
struct GivenFd {
  std::string name;
  int fd = -1;
};
std::string listen_fdnames(const std::vector<GivenFd>& fds);

}  // namespace hf::sys
