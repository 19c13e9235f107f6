// Which bytes of an event its digests prove, and the check that they do.
//
// The digest of an event is a hash of its data for some types, of a part of it for others, and of
// something outside the log (an image, a table, a file) for the rest. docs/formats/event-log.md has
// the table. What cover_of() finds depends on the PCR, the data and the digests; the type, which no
// digest covers, decides only whether an event without cover is refused.
#pragma once

#include "attestation/log/event_log.h"

namespace hf::attestation {

Cover cover_of(uint32_t pcr, ByteSpan data, std::span<const DigestView> digests);

enum class CoverRule : uint8_t {
  kRequired,   // by its type's specification the digest is of the data: refused without cover
  kIfPresent,  // some makers hash the data, others something else
  kNever       // the digest is of something outside the log
};
CoverRule cover_rule(EventType type);

// kCorrupt names the first event whose data is not what its digest was made of although its type
// says so, or whose digests contradict each other.
Status check_covered(const EventLog& log);

}  // namespace hf::attestation
