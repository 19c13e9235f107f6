#include "keeper/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

namespace hf::keeper {

Result<sys::UniqueFd> lock_directory(const std::string& path) {
  sys::UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return errno_error(errno, "open the journal directory " + path);
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "another keeper has the journal " + path,
                 .effect = "This one did not start; nothing was changed",
                 .mend = "it ends in a moment; try again"};
  }
  return directory;
}

}  // namespace hf::keeper
