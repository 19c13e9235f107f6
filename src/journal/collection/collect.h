// What collection copies: the live units of a victim's records, as the same sealed bytes, without
// the key. Each is checked against its record's digest first: what differs is not copied, its file
// stays, and the unit is named damaged.
#pragma once

#include "journal/collection/locator.h"
#include "journal/collection/survivor.h"

namespace hf::journal {

// Of a record in a young segment: header and payload as they stand there. kCorrupt: damaged.
Result<Survivor> survive(ByteSpan record, uint64_t segment, uint64_t place, const LiveUnits& live);
// Of a survivor in a collected file. `live`: of the units that it still has.
Result<Survivor> survive_again(const Survivor& survivor, const LiveUnits& live);

// Survivors of one batch, sorted by (volume, offset) and laid into files of about `output_bytes`.
struct CollectedFile {
  uint64_t number = 0;
  Bytes bytes;
};
struct Collected {
  std::vector<CollectedFile> files;
  std::vector<Location> locations;  // sorted: the batch's locator
};
Collected lay_out(std::vector<Survivor> survivors, uint64_t first_number, uint64_t output_bytes);

}  // namespace hf::journal
