#include "sys/disk_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>

namespace hf::sys {
namespace {

using namespace std::string_view_literals;

struct Signature {
  ForeignFormat format;
  size_t offset;
  std::string_view bytes;
};

// From QEMU's block drivers' probe functions, and file(1)'s list of archives.
constexpr Signature kSignatures[] = {
    {{"qcow", ""}, 0, "QFI\xfb\0\0\0\x01"sv},
    {{"qcow2", ""}, 0, "QFI\xfb"},
    {{"vmdk", ""}, 0, "KDMV"},
    {{"vmdk", ""}, 0, "COWD"},
    {{"vmdk", ""}, 0, "# Disk DescriptorFile"},
    {{"vhdx", ""}, 0, "vhdxfile"},
    {{"vpc", ""}, 0, "conectix"},
    {{"vdi", ""}, 64, "\x7f\x10\xda\xbe"},
    {{"qed", ""}, 0, "QED\0"sv},
    {{"parallels", ""}, 0, "WithoutFreeSpace"},
    {{"parallels", ""}, 0, "WithouFreSpacExt"},
    {{"bochs", ""}, 0, "Bochs Virtual HD Image"},
    {{"cloop", ""}, 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"},
    {{"tar", "tar -xf"}, 257, "ustar"},
    {{"gzip", "gunzip -k"}, 0, "\x1f\x8b\x08"},
    {{"bzip2", "bunzip2 -k"}, 0, "BZh"},
    {{"xz", "unxz -k"}, 0, "\xfd\x37zXZ\0"sv},
    {{"zstd", "unzstd"}, 0, "\x28\xb5\x2f\xfd"},
    {{"lz4", "unlz4"}, 0, "\x04\x22\x4d\x18"},
    {{"zip", "unzip"}, 0, "PK\x03\x04"},
    {{"7z", "7z x"}, 0, "7z\xbc\xaf\x27\x1c"},
};
constexpr std::string_view kBootSignature = "\x55\xaa";  // at the end of a disk's first sector
constexpr size_t kBootSignatureAt = 510;

// QEMU's file driver (block/file-posix.c) says by locks on single bytes what it does with an image,
// from 100 on, and what it lets others do, from 200 on, where a lock means that it does not. The
// numbers are those of BLK_PERM_* (block/block-common.h). A VM that only reads, shares with others
// that do.
constexpr off_t kLockUsed = 100;
constexpr off_t kLockUnshared = 200;
constexpr off_t kConsistentRead = 0;
constexpr off_t kWrite = 1;
constexpr off_t kResize = 3;

struct flock one_byte(short type, off_t at) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  return lock;
}

// False: somebody has locked the byte against us. A file system that has no locks has no users
// that say so.
bool lock_shared(int fd, off_t at) {
  struct flock lock = one_byte(F_RDLCK, at);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES);
}

bool locked_by_others(int fd, off_t at) {
  struct flock lock = one_byte(F_WRLCK, at);
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool held_by_qemu(int fd) {
  // First our own, then a look: of two that do so at a time, one sees the other at least.
  for (const off_t at :
       {kLockUsed + kConsistentRead, kLockUnshared + kWrite, kLockUnshared + kResize}) {
    if (!lock_shared(fd, at)) return true;
  }
  return locked_by_others(fd, kLockUsed + kWrite) || locked_by_others(fd, kLockUsed + kResize) ||
         locked_by_others(fd, kLockUnshared + kConsistentRead);
}

// A lease for reading is given only where nobody has the file open for writing. It is given back at
// once; whoever opens the file in between waits for that long. The signal that would tell of it is
// one that nobody needs to handle.
bool has_writers(int fd) {
  if (::fcntl(fd, F_SETSIG, SIGURG) != 0) return false;
  const bool given = ::fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
  const bool writers = !given && errno == EAGAIN;
  if (given) (void)::fcntl(fd, F_SETLEASE, F_UNLCK);
  (void)::fcntl(fd, F_SETSIG, 0);
  return writers;
}

Error in_use(const std::string& path, std::string_view by) {
  return {.code = ErrorCode::kConflict,
          .cause = "the disk image " + path + " is in use: " + std::string(by),
          .mend = "end what uses it (fuser -v " + path + " shows what), and try again"};
}

}  // namespace

std::string ForeignFormat::mend(const std::string& path) const {
  if (unpack.empty()) {
    return "qemu-img convert -f " + std::string(name) + " -O raw " + path + " " + path + ".raw";
  }
  return "take the disk image out of it: " + std::string(unpack) + " " + path;
}

Status hold_disk_image(UniqueFd& fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errno_error(errno, "disk image " + path);
  if (S_ISBLK(info.st_mode)) {
    UniqueFd alone(::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(),
                          O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK));
    if (!alone && errno == EBUSY) {
      return in_use(path, "it is mounted, or part of another device");
    }
    if (alone) fd = std::move(alone);
  }
  if (held_by_qemu(fd.get())) return in_use(path, "another process, such as QEMU, holds it");
  if (S_ISREG(info.st_mode) && has_writers(fd.get())) {
    return in_use(path, "another process has it open for writing");
  }
  return {};
}

Result<uint64_t> disk_image_size(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errno_error(errno, "disk image " + path);
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  uint64_t size = 0;
  if (S_ISBLK(info.st_mode) && ::ioctl(fd, BLKGETSIZE64, &size) == 0) return size;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = path + " is neither a file nor a block device",
               .mend = "give the path of a raw disk image"};
}

std::optional<ForeignFormat> foreign_image_format(ByteSpan head) {
  const std::string_view text = as_text(head);
  // What a machine boots from is a disk, whatever its boot code begins with.
  const bool boots = text.size() >= kBootSignatureAt + kBootSignature.size() &&
                     text.substr(kBootSignatureAt, kBootSignature.size()) == kBootSignature;
  for (const Signature& signature : kSignatures) {
    if (text.size() < signature.offset + signature.bytes.size()) continue;
    if (boots && !signature.format.unpack.empty()) continue;
    if (text.substr(signature.offset, signature.bytes.size()) == signature.bytes) {
      return signature.format;
    }
  }
  return std::nullopt;
}

}  // namespace hf::sys
