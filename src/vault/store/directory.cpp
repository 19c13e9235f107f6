#include "vault/store/directory.h"
#include "sys/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

namespace hf::vault {
namespace {

constexpr std::string_view kEffect = "the vault did nothing and changed nothing";
constexpr std::string_view kLockName = "lock";

Error permission(std::string cause, std::string mend) {
  return Error{.code = ErrorCode::kPermission,
               .cause = std::move(cause),
               .effect = std::string(kEffect),
               .mend = std::move(mend)};
}

Status check_owner_and_mode(const struct stat& status, const std::string& path, bool root_too) {
  const uid_t self = ::geteuid();
  if (status.st_uid != self && !(root_too && status.st_uid == 0)) {
    return permission(fmt::format("{} belongs to uid {}, and the vault runs as uid {}", path,
                                  status.st_uid, self),
                      sys::root_command(fmt::format("chown {} {}", self, path)));
  }
  if ((status.st_mode & 077) != 0) {
    return permission(
        fmt::format("{} is open to others (mode {:04o})", path, status.st_mode & 07777),
        fmt::format("chmod go= {}", path));
  }
  return {};
}

Status write_and_sync(int fd, ByteSpan bytes, const std::string& path) {
  TRY_CONTEXT(sys::write_all(fd, bytes), "write " + path);
  if (::fsync(fd) != 0) return errno_error(errno, "fsync " + path);
  return {};
}

Error with_full_disk_mend(Error error) {
  if (error.code != ErrorCode::kNoSpace) return error;
  return std::move(error)
      .with_effect(std::string(kEffect))
      .with_mend("free space on the file system of the vault's directory and try again");
}

}  // namespace

Status check_private_file(int fd, const std::string& path, bool root_too) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return errno_error(errno, "stat " + path);
  if (!S_ISREG(status.st_mode)) {
    return permission(path + " is not a regular file",
                      "put the file itself there, not a link to it");
  }
  return check_owner_and_mode(status, path, root_too);
}

Result<Directory> Directory::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    const int failure = errno;
    return errno_error(failure, "open the vault's directory " + path)
        .with_effect(std::string(kEffect))
        .with_mend(failure == ENOENT ? "create the vault with holdfast-vault --init --dir " + path
                                     : "see that " + path + " is a directory of the vault's user");
  }
  Directory directory(path, sys::UniqueFd(fd));
  struct stat status{};
  if (::fstat(fd, &status) != 0) return errno_error(errno, "stat " + path);
  TRY(check_owner_and_mode(status, path, false));
  return directory;
}

Status Directory::lock() {
  const int fd = ::openat(fd_.get(), std::string(kLockName).c_str(),
                          O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return with_full_disk_mend(errno_error(errno, "open the vault's lock file"));
  lock_ = sys::UniqueFd(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error(errno, "lock " + path_);
    return Error{.code = ErrorCode::kConflict,
                 .cause = "another vault process has " + path_ + " open",
                 .effect = std::string(kEffect),
                 .mend = "holdfast site restart ends a vault that a launcher left behind"};
  }
  return {};
}

Result<sys::UniqueFd> Directory::open_checked(const std::string& name) const {
  const std::string full = path_ + "/" + name;
  // O_NONBLOCK: a fifo put in a file's place must not hang the vault.
  const int fd = ::openat(fd_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ELOOP) {
      return permission(full + " is a symbolic link",
                        "put the file itself there, not a link to it");
    }
    return errno_error(errno, "open " + full);
  }
  sys::UniqueFd file(fd);
  TRY(check_private_file(fd, full, false));
  return file;
}

Result<crypto::Secret> Directory::read_secret(const std::string& name, size_t size_max) const {
  const sys::UniqueFd file = TRY(open_checked(name));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return errno_error(errno, "stat " + name);
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size > size_max) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = fmt::format("{}/{} has {} bytes, at most {} expected", path_, name, size,
                                      size_max),
                 .effect = std::string(kEffect),
                 .mend = "restore the file from a copy of the vault's directory"};
  }
  crypto::Secret content(size);
  if (size > 0) TRY(sys::pread_exact(file.get(), 0, content.mutable_span()));
  return content;
}

Result<Bytes> Directory::read(const std::string& name, size_t size_max) const {
  const crypto::Secret content = TRY(read_secret(name, size_max));
  return Bytes(content.span().begin(), content.span().end());
}

bool Directory::exists(const std::string& name) const {
  return ::faccessat(fd_.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Status Directory::sync() {
  if (::fsync(fd_.get()) != 0) return errno_error(errno, "fsync " + path_);
  return {};
}

Result<std::string> Directory::write_temporary(const std::string& name, ByteSpan bytes) {
  const std::string temporary = name + ".tmp";
  ::unlinkat(fd_.get(), temporary.c_str(), 0);  // left by a crash
  const int fd = ::openat(fd_.get(), temporary.c_str(),
                          O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return with_full_disk_mend(errno_error(errno, "create " + path_ + "/" + temporary));
  const sys::UniqueFd file(fd);
  Status written = write_and_sync(fd, bytes, path_ + "/" + temporary);
  if (!written.ok()) {
    ::unlinkat(fd_.get(), temporary.c_str(), 0);
    return with_full_disk_mend(std::move(written).error());
  }
  return temporary;
}

Status Directory::replace(const std::string& name, ByteSpan bytes) {
  const std::string temporary = TRY(write_temporary(name, bytes));
  if (::renameat(fd_.get(), temporary.c_str(), fd_.get(), name.c_str()) != 0) {
    const int failure = errno;
    ::unlinkat(fd_.get(), temporary.c_str(), 0);
    return errno_error(failure, "rename to " + path_ + "/" + name);
  }
  return sync();
}

Status Directory::create(const std::string& name, ByteSpan bytes) {
  if (exists(name)) return errno_error(EEXIST, "create " + path_ + "/" + name);
  const std::string temporary = TRY(write_temporary(name, bytes));
  // The kernel's own "only if there is none", so that no race can put a new key over an old one.
  if (::renameat2(fd_.get(), temporary.c_str(), fd_.get(), name.c_str(), RENAME_NOREPLACE) != 0) {
    const int failure = errno;
    ::unlinkat(fd_.get(), temporary.c_str(), 0);
    return errno_error(failure, "create " + path_ + "/" + name);
  }
  return sync();
}

Status Directory::remove(const std::string& name) {
  if (::unlinkat(fd_.get(), name.c_str(), 0) != 0) {
    return errno_error(errno, "remove " + path_ + "/" + name);
  }
  return sync();
}

Result<std::vector<std::string>> Directory::list() const {
  const int fd = ::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno_error(errno, "list " + path_);
  DIR* stream = ::fdopendir(fd);
  HF_ASSERT(stream != nullptr);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

Result<FileStore::Size> Directory::size(const std::string& name) const {
  struct stat status{};
  if (::fstatat(fd_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno_error(errno, "stat " + path_ + "/" + name);
  }
  const auto seconds = static_cast<uint64_t>(status.st_mtim.tv_sec);
  return Size{
      .bytes = static_cast<uint64_t>(status.st_size),
      .written_us = seconds * 1'000'000 + static_cast<uint64_t>(status.st_mtim.tv_nsec) / 1'000};
}

Result<sys::UniqueFd> Directory::open_append(const std::string& name) {
  const int fd =
      ::openat(fd_.get(), name.c_str(), O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return with_full_disk_mend(errno_error(errno, "open " + path_ + "/" + name));
  sys::UniqueFd file(fd);
  TRY(check_private_file(fd, path_ + "/" + name, false));
  return file;
}

}  // namespace hf::vault
