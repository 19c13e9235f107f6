// Where a log and the TPM part: which event is not what the TPM saw.
//
// With the keeper's record of extends the answer is exact. With PCR values alone (a quote) it is
// exact where one event left out, one too many, two in the other order or another startup locality
// explains the value; otherwise it is the PCR and the last event of it.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "attestation/event_log.h"
#include "attestation/extend_record.h"

namespace hf::attestation {

// PCRs with more events than this are not searched for the event that explains a difference.
inline constexpr size_t kExplainedEventsMax = 256;

struct LogDifference {
  std::optional<size_t> event;  // its number; none if the log lacks it altogether
  bool exact = false;           // false: some event of the PCR, `event` is the last of them
  uint32_t pcr = 0;
  std::string reason;  // "event 17 (EV_IPL in PCR 9): …"
};

struct KnownPcr {
  HashAlg alg = HashAlg::kSha256;
  uint32_t pcr = 0;
  ByteSpan value;
};

// The first difference in the order of `known`; nothing if the log leads to every value. A bank
// that the log lacks is a difference.
std::optional<LogDifference> find_difference(const EventLog& log, std::span<const KnownPcr> known);

// Every measured event against the extends of a whole record, in all banks they share. Extends
// after ExitBootServices need not be in the log: they are the operating system's.
std::optional<LogDifference> find_difference(const EventLog& log, const ExtendRecord& record);

}  // namespace hf::attestation
