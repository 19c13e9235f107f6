// What openings without the key have in common (ReplicaJournal, SealedJournal).
#pragma once

#include "journal/log/recovery.h"
#include "journal/map/files.h"
#include "journal/ship/published.h"

namespace hf::journal {

// As recover(), and every base is checked (base_file.h), that they join, and that MANIFEST's
// horizon is where the newest ends: it is signed, MANIFEST is not.
Result<Recovered> recover_keyless(Storage& storage, const ReplicaOptions& options);

// The files that base numbers name, for a seed's reader.
OpenFiles files_of(const Recovered& recovered);

}  // namespace hf::journal
