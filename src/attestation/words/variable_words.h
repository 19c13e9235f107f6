// UEFI variables, tables and partition types in words.
#pragma once

#include <string>

#include "attestation/log/event_data.h"
#include "attestation/words/event_words.h"

namespace hf::attestation {

EventWords describe_variable(const Event& event);
std::string table_name(const Guid& guid);           // "SMBIOS", "ACPI 2.0"; the GUID if unknown
std::string partition_type_name(const Guid& guid);  // "EFI system partition"; the GUID if unknown

}  // namespace hf::attestation
