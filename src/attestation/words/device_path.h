// EFI device paths in the text form of the UEFI Specification 2.10, §10.6.
#pragma once

#include <string>

#include "base/bytes.h"

namespace hf::attestation {

inline constexpr size_t kDevicePathNodesMax = 64;

// "PciRoot(0x0)/Pci(0x1F,0x2)/Sata(0x0,0xFFFF,0x0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI". Nodes of
// other kinds are Path(type,subtype,hex); what is cut off or malformed ends with "(damaged)". Log
// text: safe to print.
std::string describe_device_path(ByteSpan path);

}  // namespace hf::attestation
