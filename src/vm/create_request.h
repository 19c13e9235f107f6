// What POST /v1/vms asks for.
#pragma once

#include <string>
#include <vector>

#include "vm/definition.h"

namespace hf::vm {

struct DiskRequest {
  std::string image;        // absolute path of a raw image, or empty
  uint64_t size_bytes = 0;  // of a blank disk, or to grow the image to; 0: the image's size
};
struct CreateRequest {
  Definition definition;           // without sizes of image disks, firmware, machine type and MACs
  std::vector<DiskRequest> disks;  // one entry a disk, in order
};
// Checks names, words and sizes; the errors say what is allowed.
Result<CreateRequest> parse_create_request(const sys::JsonObject& json);

}  // namespace hf::vm
