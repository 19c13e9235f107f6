// Whether a site's launcher runs, as far as this user may know: it starts everything else, and
// starts anew what dies.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace hf::cli {

// kNotFound: none does; kPermission: this user may not know.
Result<pid_t> running_launcher(const std::string& state);

// For a command that nobody answered, for the reason `why`: is the site down, or is it only
// holdfastd (or `part`) for a moment?
Error nobody_serves(const std::string& state, std::string_view part, std::string_view why);

// Asked again and again by a command that waits for an answer: whether there is nobody left who
// would bring one. A restart of the site has nobody for a moment.
class LauncherWatch {
 public:
  explicit LauncherWatch(std::string state) : state_(std::move(state)) {}
  bool given_up();

 private:
  std::string state_;
  int64_t looked_ms_ = 0;
  int64_t gone_since_ms_ = 0;  // 0: it is there
};

}  // namespace hf::cli
