// The names of event types, as the TCG writes them.
#include <fmt/format.h>

#include <algorithm>

#include "attestation/log/event_log.h"

namespace hf::attestation {
namespace {

struct TypeName {
  EventType type;
  const char* name;
};
constexpr TypeName kTypeNames[] = {
    {EventType::kPrebootCert, "EV_PREBOOT_CERT"},
    {EventType::kPostCode, "EV_POST_CODE"},
    {EventType::kUnused, "EV_UNUSED"},
    {EventType::kNoAction, "EV_NO_ACTION"},
    {EventType::kSeparator, "EV_SEPARATOR"},
    {EventType::kAction, "EV_ACTION"},
    {EventType::kEventTag, "EV_EVENT_TAG"},
    {EventType::kSCrtmContents, "EV_S_CRTM_CONTENTS"},
    {EventType::kSCrtmVersion, "EV_S_CRTM_VERSION"},
    {EventType::kCpuMicrocode, "EV_CPU_MICROCODE"},
    {EventType::kPlatformConfigFlags, "EV_PLATFORM_CONFIG_FLAGS"},
    {EventType::kTableOfDevices, "EV_TABLE_OF_DEVICES"},
    {EventType::kCompactHash, "EV_COMPACT_HASH"},
    {EventType::kIpl, "EV_IPL"},
    {EventType::kIplPartitionData, "EV_IPL_PARTITION_DATA"},
    {EventType::kNonhostCode, "EV_NONHOST_CODE"},
    {EventType::kNonhostConfig, "EV_NONHOST_CONFIG"},
    {EventType::kNonhostInfo, "EV_NONHOST_INFO"},
    {EventType::kOmitBootDeviceEvents, "EV_OMIT_BOOT_DEVICE_EVENTS"},
    {EventType::kPostCode2, "EV_POST_CODE2"},
    {EventType::kEfiVariableDriverConfig, "EV_EFI_VARIABLE_DRIVER_CONFIG"},
    {EventType::kEfiVariableBoot, "EV_EFI_VARIABLE_BOOT"},
    {EventType::kEfiBootServicesApplication, "EV_EFI_BOOT_SERVICES_APPLICATION"},
    {EventType::kEfiBootServicesDriver, "EV_EFI_BOOT_SERVICES_DRIVER"},
    {EventType::kEfiRuntimeServicesDriver, "EV_EFI_RUNTIME_SERVICES_DRIVER"},
    {EventType::kEfiGptEvent, "EV_EFI_GPT_EVENT"},
    {EventType::kEfiAction, "EV_EFI_ACTION"},
    {EventType::kEfiPlatformFirmwareBlob, "EV_EFI_PLATFORM_FIRMWARE_BLOB"},
    {EventType::kEfiHandoffTables, "EV_EFI_HANDOFF_TABLES"},
    {EventType::kEfiPlatformFirmwareBlob2, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"},
    {EventType::kEfiHandoffTables2, "EV_EFI_HANDOFF_TABLES2"},
    {EventType::kEfiVariableBoot2, "EV_EFI_VARIABLE_BOOT2"},
    {EventType::kEfiGptEvent2, "EV_EFI_GPT_EVENT2"},
    {EventType::kEfiHcrtmEvent, "EV_EFI_HCRTM_EVENT"},
    {EventType::kEfiVariableAuthority, "EV_EFI_VARIABLE_AUTHORITY"},
    {EventType::kEfiSpdmFirmwareBlob, "EV_EFI_SPDM_FIRMWARE_BLOB"},
    {EventType::kEfiSpdmFirmwareConfig, "EV_EFI_SPDM_FIRMWARE_CONFIG"},
    {EventType::kEfiSpdmDevicePolicy, "EV_EFI_SPDM_DEVICE_POLICY"},
    {EventType::kEfiSpdmDeviceAuthority, "EV_EFI_SPDM_DEVICE_AUTHORITY"},
};

}  // namespace

std::string name_of(EventType type) {
  const TypeName* found = std::ranges::find(kTypeNames, type, &TypeName::type);
  if (found != std::end(kTypeNames)) return found->name;
  return fmt::format("type {:#010x}", static_cast<uint32_t>(type));
}

}  // namespace hf::attestation
