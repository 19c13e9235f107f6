// What the Windows boot manager and loader measure: SIPA events, which the Windows Boot
// Configuration Log holds as tagged events in PCR 11 to 14, containers within containers (wbcl.h of
// the Windows SDK). Names are Microsoft's, without the prefix SIPAEVENT_.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/log/event_log.h"

namespace hf::attestation {

inline constexpr size_t kWindowsItemsMax = 4096;  // of one event
inline constexpr size_t kWindowsDepthMax = 4;

struct WindowsItem {
  uint32_t id = 0;
  size_t depth = 0;  // 0: the event itself
  ByteSpan data;
  bool container = false;  // its items follow
};

// Nothing if the event is not a tagged event with a SIPA identifier, or its items do not fill it
// exactly. Proven if the event's cover is whole.
std::vector<WindowsItem> windows_items(const Event& event);

std::string windows_name(uint32_t id);  // "OSKERNELDEBUG"; "SIPA 0x00050099" if unknown
std::string windows_value(const WindowsItem& item);  // "off", "2", "\Windows\system32\winload.efi"

}  // namespace hf::attestation
