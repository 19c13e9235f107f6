// What a file or block device that is given as a disk image is.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "sys/fd.h"

namespace hf::sys {

// Of a regular file or block device, in bytes; kInvalidArgument for anything else. `path` is for
// the error, which has no effect yet: the caller knows what was not done.
Result<uint64_t> disk_image_size(int fd, const std::string& path);

// What a file is that is no raw disk image.
struct ForeignFormat {
  std::string_view name;    // of an image: as qemu-img names it
  std::string_view unpack;  // of an archive: the command that takes the image out; empty: an image
  // The command that makes a raw image of it.
  std::string mend(const std::string& path) const;
};

// By the first 512 bytes: the image formats that qemu-img probes for, and archives, whose bytes as
// a disk are of use to nobody. nullopt: a raw image, as far as they tell. LUKS is one: a guest may
// have encrypted its whole disk.
std::optional<ForeignFormat> foreign_image_format(ByteSpan head);

// Refuses an image that another process holds for writing, and keeps QEMU from doing so as long as
// `fd`, which is open for reading, or a copy of it lives. Seen are QEMU's own locks, writers of a
// file that is this user's (or where this user is root), and a block device that is mounted or
// part of another. Where the file system has no locks, nothing is seen. kConflict.
Status hold_disk_image(UniqueFd& fd, const std::string& path);

}  // namespace hf::sys
