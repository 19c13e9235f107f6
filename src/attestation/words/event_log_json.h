// A log as JSON, for `holdfast attest log --json` and whoever reads that.
#pragma once

#include <optional>

#include "attestation/log/event_log.h"
#include "sys/json.h"

namespace hf::attestation {

// {"format", "banks", "startup_locality", "not_proven": [{"number", "reason"}…], "pcrs": {BANK:
//  {PCR: hex}}, "extended": [PCR…], "events": [{"number", "offset", "pcr", "type", "title",
//  "detail", "proven", "not_proven"?: REASON, "cover", "digests": {BANK: hex}}…]}. With `bank`,
// only that one. "pcr" is null where an event names none. kNotFound if the log lacks the bank.
Result<sys::JsonObject> to_json(const EventLog& log, std::optional<HashAlg> bank = std::nullopt);

}  // namespace hf::attestation
