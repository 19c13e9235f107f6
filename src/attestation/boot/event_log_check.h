// Where a log and the TPM part: which event is not what the TPM saw.
//
// With the keeper's record of extends the answer is exact. With PCR values alone (a quote) it is
// exact where one event left out, one too many, two in the other order or another startup locality
// explains the value; otherwise it is the PCR and the last event of it.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "attestation/log/event_log.h"
#include "attestation/log/extend_record.h"

namespace hf::attestation {

// PCRs with more events than this are not searched for the event that explains a difference.
inline constexpr size_t kExplainedEventsMax = 256;

struct LogDifference {
  enum class Kind : uint8_t {
    kContradicts,
    kTruncated  // the log ends too early; what it has is right
  };
  Kind kind = Kind::kContradicts;
  std::optional<size_t> event;     // its number; kTruncated: the first missing one's
  bool exact = false;              // false: some event of the PCR, `event` is the last of them
  uint32_t pcr = 0;                // of the event
  std::optional<uint64_t> extend;  // its number in the record, where there is one
  size_t missing = 0;              // kTruncated: how many extends the log lacks
  std::string reason;              // "event 17 (PCR 9): …"; without what no digest proves
};

struct KnownPcr {
  HashAlg alg = HashAlg::kSha256;
  uint32_t pcr = 0;
  ByteSpan value;
};

// The first difference in the order of `known`; nothing if the log leads to every value. A bank
// that the log lacks is a difference.
std::optional<LogDifference> find_difference(const EventLog& log, std::span<const KnownPcr> known);

// Every measured event against the extends of a whole record, in all banks they share. A log need
// not have the keeper's marks of a drill or branch (two extends of PCR 6 at the very start),
// resets, firmware's farewell at the end, which comes when the operating system has read the log
// already, and what is extended after it.
std::optional<LogDifference> find_difference(const EventLog& log, const ExtendRecord& record);

}  // namespace hf::attestation
