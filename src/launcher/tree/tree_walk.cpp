#include "launcher/tree/tree_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace hf::launcher {
namespace {

constexpr int kDepthMax = 8;

Status remove_entries(int directory, int depth, const std::atomic<bool>* stop) {
  if (depth > kDepthMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "directories nested too deep"};
  }
  for (const std::string& name : TRY(list_directory(directory))) {
    if (stop != nullptr && *stop) {
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "the launcher stopped meanwhile",
                   .effect = "a part of it is left"};
    }
    if (::unlinkat(directory, name.c_str(), 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) return errno_error(errno, "remove " + name);
    sys::UniqueFd child = TRY(open_beneath(directory, name, O_RDONLY | O_DIRECTORY));
    TRY(remove_entries(child.get(), depth + 1, stop));
    if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0) {
      return errno_error(errno, "remove " + name);
    }
  }
  return {};
}

}  // namespace

Result<sys::UniqueFd> open_beneath(int directory, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (int attempt = 0; attempt < 8; ++attempt) {
    long fd = ::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how);
    if (fd >= 0) return sys::UniqueFd(static_cast<int>(fd));
    // EAGAIN: something was renamed meanwhile.
    if (errno != EINTR && errno != EAGAIN) break;
  }
  return errno_error(errno, "open " + path);
}

Result<std::vector<std::string>> list_directory(int directory) {
  // A descriptor of its own: its position is not shared, and closedir() closes it.
  int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return errno_error(errno, "list a directory");
  DIR* stream = ::fdopendir(copy);
  if (stream == nullptr) {
    ::close(copy);
    return errno_error(errno, "list a directory");
  }
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(stream)) {
    std::string name = static_cast<const char*>(entry->d_name);
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  ::closedir(stream);
  std::ranges::sort(names);
  return names;
}

Result<bool> is_own_and_empty(int directory) {
  struct stat status{};
  if (::fstat(directory, &status) != 0) return errno_error(errno, "look at a directory");
  return status.st_uid == ::geteuid() && TRY(list_directory(directory)).empty();
}

Result<sys::UniqueFd> ensure_directory(int parent, const std::string& name, Ownership ownership) {
  bool made = ::mkdirat(parent, name.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) return errno_error(errno, "make the directory " + name);
  sys::UniqueFd fd = TRY(open_beneath(parent, name, O_RDONLY | O_DIRECTORY));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return errno_error(errno, "look at " + name);
  if (!made && status.st_uid != ownership.user && !TRY(is_own_and_empty(fd.get()))) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the directory " + name + " belongs to user " +
                          std::to_string(status.st_uid) + ", not to user " +
                          std::to_string(ownership.user)};
  }
  // Before it is given away: what its user stores in it is durable only if it is there.
  if ((made || TRY(is_own_and_empty(fd.get()))) && ::fsync(parent) != 0) {
    return errno_error(errno, "store the directory " + name);
  }
  if ((status.st_uid != ownership.user || status.st_gid != ownership.group) &&
      ::fchown(fd.get(), ownership.user, ownership.group) != 0) {
    return errno_error(errno, "change the owner of " + name);
  }
  // After the owner: a change of owner clears the set-group bit.
  if (::fchmod(fd.get(), ownership.mode) != 0) return errno_error(errno, "set the mode of " + name);
  return fd;
}

Status remove_tree(int parent, const std::string& name, const std::atomic<bool>* stop) {
  Result<sys::UniqueFd> fd = open_beneath(parent, name, O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) {
    if (fd.error().code == ErrorCode::kNotFound) return {};
    return fd.error();
  }
  TRY(remove_entries(fd->get(), 0, stop));
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) {
    return errno_error(errno, "remove " + name);
  }
  return {};
}

}  // namespace hf::launcher
