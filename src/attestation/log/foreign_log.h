// What a file is that is taken for an event log and is none, by its first bytes.
#pragma once

#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace hf::attestation {

struct ForeignLog {
  std::string_view what;  // "a log of a confidential VM …"
  std::string_view mend;
};

// Nothing if the bytes may be an event log of a TPM.
std::optional<ForeignLog> foreign_log(ByteSpan bytes);

}  // namespace hf::attestation
