// What a file or block device that is given as a disk image is.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::sys {

// Of a regular file or block device, in bytes; kInvalidArgument for anything else. `path` is for
// the error, which has no effect yet: the caller knows what was not done.
Result<uint64_t> disk_image_size(int fd, const std::string& path);

// The format, as qemu-img names it, that an image's first 512 bytes show; nullopt: a raw one, as
// far as they tell.
std::optional<std::string_view> foreign_image_format(ByteSpan head);

}  // namespace hf::sys
