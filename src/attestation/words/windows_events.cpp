#include "attestation/words/windows_events.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/log/event_data.h"

namespace hf::attestation {
namespace {

constexpr size_t kTagHeaderSize = 8;  // u32 id, u32 size
// An identifier's bits: 31 not measured, 30 a container, 16 to 23 the class, 0 to 15 the number.
constexpr uint32_t kContainerBit = 0x40000000;
constexpr uint32_t kForeignBits = 0x3f000000;

enum class Form : uint8_t { kHex, kSwitch, kNumber, kText, kNone };

struct Name {
  uint32_t id;
  const char* name;
  Form form = Form::kHex;
};

using enum Form;
constexpr Name kNames[] = {
    {0x40010001, "TRUSTBOUNDARY", kNone},
    {0x40010002, "ELAM_AGGREGATION", kNone},
    {0x40010003, "LOADEDMODULE_AGGREGATION", kNone},
    {0xc0010004, "TRUSTPOINT_AGGREGATION", kNone},
    {0x40010005, "KSR_AGGREGATION", kNone},
    {0x40010006, "KSR_SIGNED_MEASUREMENT_AGGREGATION", kNone},
    {0x00020001, "INFORMATION", kNumber},
    {0x00020002, "BOOTCOUNTER", kNumber},
    {0x00020003, "TRANSFER_CONTROL", kNumber},
    {0x00020004, "APPLICATION_RETURN", kNumber},
    {0x00020005, "BITLOCKER_UNLOCK", kNumber},
    {0x00020006, "EVENTCOUNTER", kNumber},
    {0x00020007, "COUNTERID", kNumber},
    {0x00020008, "MORBIT_NOT_CANCELABLE", kSwitch},
    {0x00020009, "APPLICATION_SVN", kNumber},
    {0x0002000a, "SVN_CHAIN_STATUS", kNumber},
    {0x0002000b, "MORBIT_API_STATUS", kNumber},
    {0x0002000c, "IDK_GENERATION_STATUS", kNumber},
    {0x00040001, "BOOTDEBUGGING", kSwitch},
    {0x00040002, "BOOT_REVOCATION_LIST"},
    {0x00050001, "OSKERNELDEBUG", kSwitch},
    {0x00050002, "CODEINTEGRITY", kSwitch},
    {0x00050003, "TESTSIGNING", kSwitch},
    {0x00050004, "DATAEXECUTIONPREVENTION", kNumber},
    {0x00050005, "SAFEMODE", kSwitch},
    {0x00050006, "WINPE", kSwitch},
    {0x00050007, "PHYSICALADDRESSEXTENSION", kNumber},
    {0x00050008, "OSDEVICE", kNumber},
    {0x00050009, "SYSTEMROOT", kText},
    {0x0005000a, "HYPERVISOR_LAUNCH_TYPE", kNumber},
    {0x0005000b, "HYPERVISOR_PATH", kText},
    {0x0005000c, "HYPERVISOR_IOMMU_POLICY", kNumber},
    {0x0005000d, "HYPERVISOR_DEBUG", kSwitch},
    {0x0005000e, "DRIVER_LOAD_POLICY", kNumber},
    {0x0005000f, "SI_POLICY"},
    {0x00050010, "HYPERVISOR_MMIO_NX_POLICY", kNumber},
    {0x00050011, "HYPERVISOR_MSR_FILTER_POLICY", kNumber},
    {0x00050012, "VSM_LAUNCH_TYPE", kNumber},
    {0x00050013, "OS_REVOCATION_LIST"},
    {0x00050014, "SMT_STATUS", kNumber},
    {0x00050020, "VSM_IDK_INFO"},
    {0x00050021, "FLIGHTSIGNING", kSwitch},
    {0x00050022, "PAGEFILE_ENCRYPTION_ENABLED", kSwitch},
    {0x00050023, "VSM_IDKS_INFO"},
    {0x00050024, "HIBERNATION_DISABLED", kSwitch},
    {0x00050025, "DUMPS_DISABLED", kSwitch},
    {0x00050026, "DUMP_ENCRYPTION_ENABLED", kSwitch},
    {0x00050027, "DUMP_ENCRYPTION_KEY_DIGEST"},
    {0x00050028, "LSAISO_CONFIG", kNumber},
    {0x00050029, "SBCP_INFO"},
    {0x00050030, "HYPERVISOR_BOOT_DMA_PROTECTION", kSwitch},
    {0x00050031, "SI_POLICY_SIGNER"},
    {0x00050032, "SI_POLICY_UPDATE_SIGNER"},
    {0x00060001, "NOAUTHORITY", kSwitch},
    {0x00060002, "AUTHORITYPUBKEY"},
    {0x00070001, "FILEPATH", kText},
    {0x00070002, "IMAGESIZE", kNumber},
    {0x00070003, "HASHALGORITHMID", kNumber},
    {0x00070004, "AUTHENTICODEHASH"},
    {0x00070005, "AUTHORITYISSUER", kText},
    {0x00070006, "AUTHORITYSERIAL"},
    {0x00070007, "IMAGEBASE", kNumber},
    {0x00070008, "AUTHORITYPUBLISHER", kText},
    {0x00070009, "AUTHORITYSHA1THUMBPRINT"},
    {0x0007000a, "IMAGEVALIDATED", kSwitch},
    {0x0007000b, "MODULE_SVN", kNumber},
    {0x0007000c, "MODULE_HSP"},
    {0x80080001, "QUOTE"},
    {0x80080002, "QUOTESIGNATURE"},
    {0x80080003, "AIKID", kText},
    {0x80080004, "AIKPUBDIGEST"},
    {0x00090001, "ELAM_KEYNAME", kText},
    {0x00090002, "ELAM_CONFIGURATION"},
    {0x00090003, "ELAM_POLICY"},
    {0x00090004, "ELAM_MEASURED"},
    {0x000a0001, "VBS_VSM_REQUIRED", kSwitch},
    {0x000a0002, "VBS_SECUREBOOT_REQUIRED", kSwitch},
    {0x000a0003, "VBS_IOMMU_REQUIRED", kSwitch},
    {0x000a0004, "VBS_MMIO_NX_REQUIRED", kSwitch},
    {0x000a0005, "VBS_MSR_FILTERING_REQUIRED", kSwitch},
    {0x000a0006, "VBS_MANDATORY_ENFORCEMENT", kSwitch},
    {0x000a0007, "VBS_HVCI_POLICY", kNumber},
    {0x000a0008, "VBS_MICROSOFT_BOOT_CHAIN_REQUIRED", kSwitch},
    {0x000a0009, "VBS_DUMP_USES_AMEROOT", kSwitch},
    {0x000a000a, "VBS_VSM_NOSECRETS_ENFORCED", kSwitch},
    {0x000b0001, "KSR_SIGNATURE"},
    {0x000c0001, "DRTM_STATE_AUTH"},
    {0x000c0002, "DRTM_SMM_LEVEL", kNumber},
    {0x000c0003, "DRTM_AMD_SMM_HASH"},
    {0x000c0004, "DRTM_AMD_SMM_SIGNER_KEY"},
};

const Name* find_name(uint32_t id) {
  const Name* found = std::ranges::find(kNames, id, &Name::id);
  return found == std::end(kNames) ? nullptr : found;
}

// Appends the items of `data`; false if they do not fill it.
bool read_items(ByteSpan data, size_t depth, std::vector<WindowsItem>& items) {
  while (!data.empty()) {
    if (data.size() < kTagHeaderSize || items.size() == kWindowsItemsMax) return false;
    auto id = load_le<uint32_t>(data.data());
    auto size = load_le<uint32_t>(data.data() + 4);
    if ((id & kForeignBits) != 0 || size > data.size() - kTagHeaderSize) return false;
    ByteSpan body = data.subspan(kTagHeaderSize, size);
    data = data.subspan(kTagHeaderSize + size);
    items.push_back({.id = id, .depth = depth, .data = body});
    if ((id & kContainerBit) == 0 || depth + 1 == kWindowsDepthMax) continue;
    size_t own = items.size() - 1;
    size_t before = items.size();
    items[own].container = read_items(body, depth + 1, items);
    if (!items[own].container) items.resize(before);  // a container of bytes we do not know
  }
  return true;
}

}  // namespace

std::vector<WindowsItem> windows_items(const Event& event) {
  std::vector<WindowsItem> items;
  bool records = event.type == EventType::kNoAction && event.pcr == kNoPcr;
  if (event.type != EventType::kEventTag && !records) return items;
  if (!read_items(event.data, 0, items)) items.clear();
  return items;
}

std::string windows_name(uint32_t id) {
  const Name* name = find_name(id);
  return name == nullptr ? fmt::format("SIPA {:#010x}", id) : name->name;
}

std::string windows_value(const WindowsItem& item) {
  constexpr size_t kHexShown = 32;
  const Name* name = find_name(item.id);
  Form form = name == nullptr ? kHex : name->form;
  if (item.container || form == kNone || item.data.empty()) return "";
  if (form == kText) return printable(item.data);
  size_t size = item.data.size();
  bool number = size == 1 || size == 2 || size == 4 || size == 8;
  if (number && (form == kNumber || form == kSwitch)) {
    std::array<std::byte, 8> wide{};
    std::ranges::copy(item.data, wide.begin());
    auto value = load_le<uint64_t>(wide.data());
    if (form == kSwitch && value <= 1) return value == 1 ? "on" : "off";
    return fmt::format("{}", value);
  }
  return to_hex(item.data.first(std::min(size, kHexShown))) + (size > kHexShown ? "…" : "");
}

}  // namespace hf::attestation
