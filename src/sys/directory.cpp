#include "sys/directory.h"
#include "sys/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <thread>

namespace hf::sys {
namespace {

constexpr size_t kNameMax = 255;
constexpr size_t kFilesMax = 65'536;  // open at once

Status check_name(std::string_view name) {
  if (is_flat_name(name)) return {};
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + std::string(name) + "\" is not a plain file name"};
}

// Freeing a large file whose pages are in the cache takes tens of milliseconds, in which the
// owner's loop would serve nobody. The last reference to it goes on another thread.
constexpr off_t kLargeFile = off_t{1} << 20;

void let_go(UniqueFd last) {
  struct stat info{};
  if (::fstat(last.get(), &info) != 0 || info.st_nlink > 0 || info.st_size < kLargeFile) return;
  try {
    std::thread([fd = std::move(last)]() mutable { fd.reset(); }).detach();
  } catch (const std::system_error&) {
    // No thread to be had: it went with the lambda, here.
  }
}

}  // namespace

bool is_flat_name(std::string_view name) {
  if (name.empty() || name.size() > kNameMax || name.front() == '.') return false;
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Result<UniqueFd> open_private_directory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return errno_error(errno, "open directory " + path);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errno_error(errno, "stat " + path);
  if (info.st_uid != ::geteuid()) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = path + " belongs to uid " + std::to_string(info.st_uid) +
                          ", not to uid " + std::to_string(::geteuid()),
                 .effect = "its content is not trusted and not opened",
                 .mend = root_command("chown " + std::to_string(::geteuid()) + " " + path)};
  }
  if ((info.st_mode & 077) != 0) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = path + " is open to group or others",
                 .effect = "its content is not trusted and not opened",
                 .mend = "chmod 0700 " + path};
  }
  return fd;
}

DirectoryStorage::File& DirectoryStorage::at(FileId file) {
  HF_ASSERT(file.value >= 1 && file.value <= files_.size());
  File& entry = files_[file.value - 1];
  HF_ASSERT(entry.used);
  return entry;
}

int DirectoryStorage::descriptor(FileId file) const {
  HF_ASSERT(file.value >= 1 && file.value <= files_.size());
  const File& entry = files_[file.value - 1];
  HF_ASSERT(entry.fd.valid() && !entry.closing);
  return entry.fd.get();
}

void DirectoryStorage::begin(FileId file) { ++at(file).operations; }

void DirectoryStorage::end(FileId file) {
  File& entry = at(file);
  HF_ASSERT(entry.operations > 0);
  if (--entry.operations > 0 || !entry.closing) return;
  if (entry.fd) let_go(std::exchange(entry.fd, {}));
  entry = File{};
}

FileId DirectoryStorage::free_id() {
  auto free = std::ranges::find_if(files_, [](const File& file) { return !file.used; });
  if (free == files_.end()) free = files_.emplace(files_.end());
  free->used = true;
  return FileId(static_cast<uint32_t>(free - files_.begin()) + 1);
}

FileId DirectoryStorage::promise() {
  const FileId file = free_id();
  begin(file);
  return file;
}

void DirectoryStorage::keep(FileId file, UniqueFd fd) {
  HF_ASSERT(!at(file).fd.valid());
  at(file).fd = std::move(fd);
  end(file);
}

Result<FileId> DirectoryStorage::open(std::string_view name, OpenMode mode) {
  TRY(check_name(name));
  int flags = O_CLOEXEC | O_NOFOLLOW;
  switch (mode) {
    case OpenMode::kRead:
      flags |= O_RDONLY;
      break;
    case OpenMode::kReadWrite:
      flags |= O_RDWR;
      break;
    case OpenMode::kCreate:
      flags |= O_RDWR | O_CREAT | O_EXCL;
      break;
  }
  std::string text(name);
  UniqueFd fd(::openat(directory_.get(), text.c_str(), flags, 0600));
  if (!fd) return errno_error(errno, "open " + text);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errno_error(errno, "stat " + text);
  if (!S_ISREG(info.st_mode)) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = text + " is not a regular file"};
  }
  if (files_.size() >= kFilesMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "too many open files in a storage"};
  }
  const FileId file = free_id();
  at(file).fd = std::move(fd);
  return file;
}

Status DirectoryStorage::close(FileId file) {
  File& entry = at(file);
  HF_ASSERT(!entry.closing);
  if (entry.operations == 0) {
    if (entry.fd) let_go(std::exchange(entry.fd, {}));
    entry = File{};
  } else {
    entry.closing = true;
  }
  return {};
}

Result<uint64_t> DirectoryStorage::size(FileId file) {
  struct stat info{};
  if (::fstat(descriptor(file), &info) != 0) return errno_error(errno, "stat a file");
  return static_cast<uint64_t>(info.st_size);
}

Status DirectoryStorage::truncate(FileId file, uint64_t size) {
  if (::ftruncate(descriptor(file), static_cast<off_t>(size)) != 0) {
    return errno_error(errno, "set a file's size");
  }
  return {};
}

Status DirectoryStorage::remove(std::string_view name) {
  TRY(check_name(name));
  std::string text(name);
  UniqueFd kept(::openat(directory_.get(), text.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (::unlinkat(directory_.get(), text.c_str(), 0) != 0)
    return errno_error(errno, "remove " + text);
  if (kept) let_go(std::move(kept));
  return {};
}

Status DirectoryStorage::rename(std::string_view from, std::string_view to) {
  TRY(check_name(from));
  TRY(check_name(to));
  std::string old_name(from);
  std::string new_name(to);
  if (::renameat(directory_.get(), old_name.c_str(), directory_.get(), new_name.c_str()) != 0) {
    return errno_error(errno, "rename " + old_name + " to " + new_name);
  }
  return {};
}

Result<std::vector<std::string>> DirectoryStorage::list() {
  // A descriptor of its own: readdir moves the position of the one it is given.
  UniqueFd copy(::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!copy) return errno_error(errno, "open a directory");
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy.get()), ::closedir);
  if (!stream) return errno_error(errno, "read a directory");
  (void)copy.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) return errno_error(errno, "read a directory");
      break;
    }
    if (is_flat_name(entry->d_name)) names.emplace_back(entry->d_name);
  }
  std::ranges::sort(names);
  return names;
}

Result<uint64_t> DirectoryStorage::stored_bytes() {
  uint64_t bytes = 0;
  for (const std::string& name : TRY(list())) {
    struct stat status{};
    if (::fstatat(directory_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno_error(errno, "stat " + name);
    }
    bytes += static_cast<uint64_t>(status.st_blocks) * 512;
  }
  return bytes;
}

Status DirectoryStorage::sync_directory() {
  if (::fsync(directory_.get()) != 0) return errno_error(errno, "sync a directory");
  return {};
}

Status DirectoryStorage::read_now(FileId file, uint64_t offset, MutableByteSpan to) {
  return pread_exact(descriptor(file), offset, to);
}
Status DirectoryStorage::write_now(FileId file, uint64_t offset, ByteSpan from) {
  return pwrite_all(descriptor(file), offset, from);
}
Status DirectoryStorage::sync_now(FileId file) {
  if (::fdatasync(descriptor(file)) != 0) return errno_error(errno, "sync a file");
  return {};
}

Result<std::unique_ptr<PosixStorage>> PosixStorage::open_directory(const std::string& path) {
  UniqueFd directory = TRY(open_private_directory(path));
  return std::unique_ptr<PosixStorage>(new PosixStorage(std::move(directory)));
}

void PosixStorage::read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) {
  finished_.push_back({&done, read_now(file, offset, to)});
}
void PosixStorage::write(FileId file, uint64_t offset, ByteSpan from, Completion& done) {
  finished_.push_back({&done, write_now(file, offset, from)});
}
void PosixStorage::sync(FileId file, Completion& done) {
  finished_.push_back({&done, sync_now(file)});
}

FileId PosixStorage::create(std::string_view name, Completion& done) {
  Result<FileId> made = open(name, OpenMode::kCreate);
  FileId file;
  Status status;
  if (made.ok()) {
    file = *made;
  } else {
    file = promise();
    keep(file, {});
    status = std::move(made).error();
  }
  finished_.push_back({&done, std::move(status)});
  return file;
}
void PosixStorage::unlink(std::string_view name, Completion& done) {
  finished_.push_back({&done, remove(name)});
}
void PosixStorage::move(std::string_view from, std::string_view to, Completion& done) {
  finished_.push_back({&done, rename(from, to)});
}
void PosixStorage::sync_names(Completion& done) { finished_.push_back({&done, sync_directory()}); }

void PosixStorage::drain() {
  while (!finished_.empty()) {
    std::vector<Finished> batch = std::exchange(finished_, {});
    for (Finished& item : batch) item.done->on_complete(std::move(item.status));
  }
}

}  // namespace hf::sys
