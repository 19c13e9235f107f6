// UEFI_VARIABLE_DATA: what firmware hashes when it measures a variable, and what the event log then
// holds (TCG PC Client Platform Firmware Profile 1.05, 10.2.6):
//
//   vendor GUID | u64 characters of the name | u64 bytes of the content | name, UTF-16 | content
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "secure_boot/efi/guid.h"

namespace hf::attestation {

inline constexpr size_t kVariableNameMax = 256;  // characters

struct VariableData {
  secure_boot::Guid vendor;
  std::string name;  // ASCII: the names that count here have no other characters
  ByteSpan content;
};

// Only if the bytes are exactly one such structure with an ASCII name.
std::optional<VariableData> read_variable_data(ByteSpan bytes);
Bytes variable_data(const secure_boot::Guid& vendor, std::string_view name, ByteSpan content);

}  // namespace hf::attestation
