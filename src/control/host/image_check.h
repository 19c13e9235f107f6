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
// (another format: the mend is the qemu-img command that converts it). Reads only its first
// sectors.
Result<CheckedImage> open_image(const std::string& path);

}  // namespace hf::control
