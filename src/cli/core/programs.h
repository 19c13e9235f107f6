// Running Holdfast's own programs, which lie beside this one.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace hf::cli {

// Beside the running executable.
std::string program_path(std::string_view name);

struct Finished {
  int status = 0;  // 128 + signal if it was killed
  std::string output;
  std::string errors;
};
// Runs as `user` (root only, if it is another than now), with no descriptor but 0, 1 and 2; waits
// for its end, a minute at most.
Result<Finished> run_program(const std::vector<std::string>& argv, uid_t user);

}  // namespace hf::cli
