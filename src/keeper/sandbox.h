// What a keeper gives up once it has opened its journal: it faces a guest, or another site, so a
// flaw in it must end at its one VM.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hf::keeper {

// Files: what is in these directories, nothing else. Before any thread starts.
Status confine_to_directories(const std::vector<std::string>& directories);

// System calls: what serving needs (the list in sandbox.cpp is for review). No ring can be made or
// registered with any more; the one there is was restricted when it was made. Once all is started.
Status confine_to_serving();

}  // namespace hf::keeper
