#include "daemon/image_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "daemon/vm_definition.h"

namespace hf::daemon {
namespace {

constexpr std::string_view kEffect = "nothing was created";

struct Signature {
  std::string_view format;  // as qemu-img names it; empty: not a disk image at all
  size_t offset;
  std::string_view bytes;
};

// From QEMU's block drivers' probe functions.
constexpr Signature kSignatures[] = {
    {"qcow2", 0, std::string_view("QFI\xfb", 4)},
    {"vmdk", 0, "KDMV"},
    {"vmdk", 0, "COWD"},
    {"vmdk", 0, "# Disk DescriptorFile"},
    {"vhdx", 0, "vhdxfile"},
    {"vpc", 0, "conectix"},
    {"vdi", 64, std::string_view("\x7f\x10\xda\xbe", 4)},
    {"qed", 0, std::string_view("QED\0", 4)},
};

std::optional<std::string_view> other_format(std::string_view head) {
  for (const Signature& signature : kSignatures) {
    if (head.size() < signature.offset + signature.bytes.size()) continue;
    if (head.substr(signature.offset, signature.bytes.size()) == signature.bytes)
      return signature.format;
  }
  return std::nullopt;
}

Error open_error(const std::string& path, int error_number) {
  Error error = errno_error(error_number, "disk image " + path);
  error.effect = std::string(kEffect);
  if (error.code == ErrorCode::kNotFound) {
    error.cause = "the disk image " + path + " does not exist";
    error.mend = "check the path: ls -l " + path;
  } else if (error.code == ErrorCode::kPermission) {
    error.cause =
        fmt::format("holdfastd (user {}) may not read the disk image {}", ::geteuid(), path);
    error.mend = "let that user read the file and enter its directories: setfacl -m u:" +
                 std::to_string(::geteuid()) + ":r " + path;
  } else {
    error.mend = "check the file: ls -l " + path;
  }
  return error;
}

Result<uint64_t> size_of(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return open_error(path, errno);
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  uint64_t size = 0;
  if (S_ISBLK(info.st_mode) && ::ioctl(fd, BLKGETSIZE64, &size) == 0) return size;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = path + " is neither a file nor a block device",
               .effect = std::string(kEffect),
               .mend = "give the path of a raw disk image"};
}

}  // namespace

Result<CheckedImage> open_image(const std::string& path) {
  CheckedImage image;
  image.fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!image.fd) return open_error(path, errno);
  image.size_bytes = TRY(size_of(image.fd.get(), path));

  char head[512] = {};
  ssize_t got = ::pread(image.fd.get(), head, sizeof head, 0);
  if (got < 0) return open_error(path, errno);
  std::string_view read(head, static_cast<size_t>(got));
  if (std::optional<std::string_view> format = other_format(read)) {
    return Error{
        .code = ErrorCode::kUnsupported,
        .cause = fmt::format("the disk image {} is of format {}; only raw images are taken", path,
                             *format),
        .effect = std::string(kEffect),
        .mend = fmt::format("qemu-img convert -f {} -O raw {} {}.raw", *format, path, path)};
  }
  if (image.size_bytes < kDiskBytesMin) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = fmt::format("the disk image {} has {} bytes: too small for a disk", path,
                                      image.size_bytes),
                 .effect = std::string(kEffect),
                 .mend = "give an image of at least 1 MiB, or an empty disk: --blank SIZE"};
  }
  if (image.size_bytes % 512 != 0) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = fmt::format(
            "the disk image {} has {} bytes: not whole sectors of 512; it may be cut short", path,
            image.size_bytes),
        .effect = std::string(kEffect),
        .mend = "copy the image again; if it is whole: truncate -s %512 " + path};
  }
  return image;
}

}  // namespace hf::daemon
