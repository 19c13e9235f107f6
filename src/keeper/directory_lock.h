// One keeper a journal, whatever its mode: the lock is on the directory itself and goes with the
// process.
#pragma once

#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::keeper {

// kConflict: another process has it.
Result<sys::UniqueFd> lock_directory(const std::string& path);

}  // namespace hf::keeper
