// Which bytes of an event its digests prove, and which events ought to have such bytes and have
// none.
//
// The digest of an event is a hash of its data for some types, of a part of it for others, and of
// something outside the log (an image, a table, a file) for the rest. docs/formats/event-log.md has
// the table. What cover_of() finds depends on the PCR, the data and the digests; the type, which no
// digest covers, decides only whether an event without cover is told as not proven.
#pragma once

#include "attestation/log/event_log.h"

namespace hf::attestation {

Cover cover_of(uint32_t pcr, ByteSpan data, std::span<const DigestView> digests);

enum class CoverRule : uint8_t {
  kRequired,   // by its type's specification the digest is of the data
  kIfPresent,  // some makers hash the data, others something else
  kNever       // the digest is of something outside the log
};
CoverRule cover_rule(EventType type);

// An event whose data should be what its digests were made of, and are not. Firmware of several
// makers writes such events (H-CRTM, its own version, boot variables), so by itself this is no sign
// of an edit: nothing may be believed of the data, and that is all.
struct UnprovenEvent {
  size_t event = 0;  // its number
  uint32_t pcr = 0;
  // In PCR 7 and above: keys, texts and tags, which whoever measures them hashes as they stand in
  // the log (PFP 1.05 §3.3.4.8; GRUB, systemd, Windows). So the PCR disproves these words.
  bool disproved = false;
  std::string reason;  // "its data is not what its digest was made of"
};
std::vector<UnprovenEvent> unproven_events(const EventLog& log);

}  // namespace hf::attestation
