// Walking directories of other users, by descriptors only, without following links.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::launcher {

// openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS; close-on-exec.
Result<sys::UniqueFd> open_beneath(int directory, const std::string& path, int flags,
                                   mode_t mode = 0);
// Names in it without "." and "..", sorted.
Result<std::vector<std::string>> list_directory(int directory);

struct Ownership {
  uid_t user;
  gid_t group;
  mode_t mode;
};
// Nothing in it, and this process's user's: made, and not given away yet.
Result<bool> is_own_and_empty(int directory);
// Makes it, or takes what is there if it is a directory of the same user, or an empty one of this
// process's (kConflict otherwise), and sets group and mode. A new one's name is durable.
Result<sys::UniqueFd> ensure_directory(int parent, const std::string& name, Ownership ownership);

// Removes parent/name and all below. Nothing there is no error. Once `stop` is set: kUnavailable,
// and what is left stays.
Status remove_tree(int parent, const std::string& name, const std::atomic<bool>* stop = nullptr);

}  // namespace hf::launcher
