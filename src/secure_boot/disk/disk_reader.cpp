#include "secure_boot/disk/disk_reader.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "sys/disk_image.h"

namespace hf::secure_boot {
Result<Bytes> BlockSource::read_bytes(uint64_t offset, size_t count) {
  const uint64_t there = readable();
  if (offset > there || count > there - offset) {
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

uint64_t RangeSource::readable() const {
  const uint64_t there = source_.readable();
  return offset_ >= there ? 0 : std::min(size_, there - offset_);
}

Status RangeSource::read(uint64_t offset, MutableByteSpan out) {
  const uint64_t there = readable();
  if (offset > there || out.size() > there - offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a read beyond the end of the partition"};
  }
  return source_.read(offset_ + offset, out);
}

Status BudgetSource::read(uint64_t offset, MutableByteSpan out) {
  if (budget_.stop && budget_.stop()) {
    return Error{.code = ErrorCode::kUnavailable, .cause = "it was stopped"};
  }
  const uint64_t cost = std::max<uint64_t>(out.size(), kReadCostMin);
  if (cost > budget_.bytes_left) {
    budget_.bytes_left = 0;
    return Error{.code = ErrorCode::kLimit, .cause = "its boot files refer to more than is read"};
  }
  budget_.bytes_left -= cost;
  return source_.read(offset, out);
}

Result<FileSource> FileSource::open(const std::string& path) {
  sys::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) {
    return errno_error(errno, "open the disk image " + path)
        .with_effect("nothing was checked")
        .with_mend("check path and mode: ls -l " + path);
  }
  Result<uint64_t> found = sys::disk_image_size(fd.get(), path);
  if (!found.ok()) return std::move(found).error().with_effect("nothing was checked");
  const uint64_t size = *found;
  FileSource source(std::move(fd), size);
  Bytes head = TRY(source.read_bytes(0, std::min<uint64_t>(size, 512)));
  if (std::optional<sys::ForeignFormat> format = sys::foreign_image_format(head)) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = fmt::format("the disk image {} is of format {}; only raw images are read",
                                      path, format->name),
                 .effect = "nothing was checked",
                 .mend = format->mend(path)};
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
