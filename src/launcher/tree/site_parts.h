// Making a site's state directory, so that a step that fails leaves what was there before.
//
// Each part is made exclusively, below a descriptor of STATE, without following links; what this
// object made, and nothing else, goes again unless keep() was called. STATE itself is made, or
// taken if it is an empty directory of this user with a fitting mode: it is never chowned or
// chmodded. ("lost+found" may lie in it: a file system of its own.)
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::launcher {

class SiteParts {
 public:
  // `state`: absolute. `shared`: users of their own have to pass through it. kExists: it holds a
  // site, or something else; kPermission: another user's, or a mode that does not fit.
  static Result<SiteParts> begin(const std::string& state, bool shared);
  SiteParts(SiteParts&& other) noexcept;
  SiteParts& operator=(SiteParts&&) = delete;
  ~SiteParts();

  // `name`: below STATE, its parent made before ("daemon/part"). kExists if it is there.
  Status make_directory(const std::string& name, mode_t mode, uid_t owner, gid_t group);
  // Whole and synced, or not there. kExists if it is there.
  Status write_file(const std::string& name, mode_t mode, std::string_view text);
  void keep() { kept_ = true; }

  const std::string& path() const { return path_; }  // without links

 private:
  SiteParts() = default;
  Status make_state(const std::string& state);
  Status check_state(bool shared) const;

  std::string path_;
  sys::UniqueFd root_;
  std::vector<std::string> made_;          // below STATE, in the order they were made
  std::vector<std::string> made_parents_;  // STATE and those above it, outermost first
  bool kept_ = false;
};

}  // namespace hf::launcher
