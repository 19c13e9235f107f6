// Files that commands read by themselves: bounded, regular or not, "-" is standard input.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::cli {

// kLimit if it is longer than `bytes_max`; errors name the path.
Result<Bytes> read_input(const std::string& path, size_t bytes_max);

// Without the white space at its end, as `echo` and editors leave it.
std::string trimmed_text(const Bytes& bytes);

}  // namespace hf::cli
