// What came into and went out of a signature database, in words.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"

namespace hf::attestation {

struct DatabaseChange {
  std::vector<std::string> added;
  std::vector<std::string> removed;
  size_t added_count = 0;
  size_t removed_count = 0;
  bool readable = false;  // both could be parsed
};
DatabaseChange database_change(ByteSpan was, ByteSpan is);

}  // namespace hf::attestation
