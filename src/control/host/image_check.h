// Is a file a raw disk image that can become a VM's disk?
#pragma once

#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::control {

struct CheckedImage {
  sys::UniqueFd fd;  // read-only
  uint64_t size_bytes = 0;
};

// kNotFound, kPermission, kInvalidArgument (too small, not whole sectors, not a file), kUnsupported
// (another format, or an archive: the mend is the command that makes a raw image of it), kConflict
// (somebody writes to it). Reads only its first sectors. While the descriptor or a copy of it is
// open, no QEMU takes the image for writing.
Result<CheckedImage> open_image(const std::string& path);

}  // namespace hf::control
