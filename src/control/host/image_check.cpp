#include "control/host/image_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "sys/disk_image.h"
#include "vm/definition.h"

namespace hf::control {
namespace {

constexpr std::string_view kEffect = "nothing was created";

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

}  // namespace

Result<CheckedImage> open_image(const std::string& path) {
  CheckedImage image;
  image.fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!image.fd) return open_error(path, errno);
  Result<uint64_t> size = sys::disk_image_size(image.fd.get(), path);
  if (!size.ok()) return std::move(size).error().with_effect(std::string(kEffect));
  image.size_bytes = *size;
  Status held = sys::hold_disk_image(image.fd, path);
  if (!held.ok()) return std::move(held).error().with_effect(std::string(kEffect));

  std::byte head[512] = {};
  ssize_t got = ::pread(image.fd.get(), head, sizeof head, 0);
  if (got < 0) return open_error(path, errno);
  const ByteSpan read(head, static_cast<size_t>(got));
  if (std::optional<sys::ForeignFormat> format = sys::foreign_image_format(read)) {
    return Error{
        .code = ErrorCode::kUnsupported,
        .cause = fmt::format("the disk image {} is of format {}; only raw images are taken", path,
                             format->name),
        .effect = std::string(kEffect),
        .mend = format->mend(path)};
  }
  if (image.size_bytes < vm::kDiskBytesMin) {
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

}  // namespace hf::control
