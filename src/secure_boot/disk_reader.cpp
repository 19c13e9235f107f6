#include "secure_boot/disk_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>

namespace hf::secure_boot {
namespace {

struct OtherFormat {
  std::string_view name;  // as qemu-img names it
  size_t offset;
  std::string_view bytes;
};

// From QEMU's block drivers' probe functions.
constexpr OtherFormat kOtherFormats[] = {
    {"qcow2", 0, std::string_view("QFI\xfb", 4)},
    {"vmdk", 0, "KDMV"},
    {"vmdk", 0, "# Disk DescriptorFile"},
    {"vhdx", 0, "vhdxfile"},
    {"vpc", 0, "conectix"},
    {"vdi", 64, std::string_view("\x7f\x10\xda\xbe", 4)},
    {"qed", 0, std::string_view("QED\0", 4)},
};

std::optional<std::string_view> other_format(std::string_view head) {
  for (const OtherFormat& format : kOtherFormats) {
    if (head.size() < format.offset + format.bytes.size()) continue;
    if (head.substr(format.offset, format.bytes.size()) == format.bytes) return format.name;
  }
  return std::nullopt;
}

Result<uint64_t> size_of(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errno_error(errno, "disk image " + path);
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  uint64_t size = 0;
  if (S_ISBLK(info.st_mode) && ::ioctl(fd, BLKGETSIZE64, &size) == 0) return size;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = path + " is neither a file nor a block device",
               .effect = "nothing was checked",
               .mend = "give the path of a raw disk image"};
}

}  // namespace

Result<Bytes> BlockSource::read_bytes(uint64_t offset, size_t count) {
  if (offset > size() || count > size() - offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a read beyond the end of the disk"};
  }
  Bytes out(count);
  TRY(read(offset, out));
  return out;
}

Status MemorySource::read(uint64_t offset, MutableByteSpan out) {
  if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a read beyond the end of the disk"};
  }
  std::ranges::copy(bytes_.subspan(offset, out.size()), out.begin());
  return {};
}

RangeSource::RangeSource(BlockSource& source, uint64_t offset, uint64_t size)
    : source_(source), offset_(std::min(offset, source.size())) {
  size_ = std::min(size, source.size() - offset_);
}

Status RangeSource::read(uint64_t offset, MutableByteSpan out) {
  if (offset > size_ || out.size() > size_ - offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a read beyond the end of the partition"};
  }
  return source_.read(offset_ + offset, out);
}

Status BudgetSource::read(uint64_t offset, MutableByteSpan out) {
  if (out.size() > budget_.bytes_left) {
    budget_.bytes_left = 0;
    return Error{.code = ErrorCode::kLimit, .cause = "its boot files refer to more than is read"};
  }
  budget_.bytes_left -= out.size();
  return source_.read(offset, out);
}

Result<FileSource> FileSource::open(const std::string& path) {
  sys::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) {
    return errno_error(errno, "open the disk image " + path)
        .with_effect("nothing was checked")
        .with_mend("check path and mode: ls -l " + path);
  }
  const uint64_t size = TRY(size_of(fd.get(), path));
  FileSource source(std::move(fd), size);
  Bytes head = TRY(source.read_bytes(0, std::min<uint64_t>(size, 512)));
  if (std::optional<std::string_view> format = other_format(as_text(head))) {
    return Error{
        .code = ErrorCode::kUnsupported,
        .cause = fmt::format("the disk image {} is of format {}; only raw images are read", path,
                             *format),
        .effect = "nothing was checked",
        .mend = fmt::format("qemu-img convert -f {} -O raw {} {}.raw", *format, path, path)};
  }
  return source;
}

Status FileSource::read(uint64_t offset, MutableByteSpan out) {
  if (offset > size_ || out.size() > size_ - offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a read beyond the end of the disk"};
  }
  return sys::pread_exact(fd_.get(), offset, out);
}

}  // namespace hf::secure_boot
