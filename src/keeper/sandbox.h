// What a serving keeper gives up: it faces the guest, so a flaw in it must end at its one VM.
#pragma once

#include "keeper/config.h"

namespace hf::keeper {

// Files: the journal's directory and the guest state file's, nothing else. Before any thread
// starts.
Status confine_to_own_files(const Config& config);

// System calls: what serving needs (the list in sandbox.cpp is for review). No ring can be made or
// registered with any more; the one there is was restricted when it was made. Once all is started.
Status confine_to_serving();

}  // namespace hf::keeper
