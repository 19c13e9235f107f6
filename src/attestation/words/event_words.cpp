#include "attestation/words/event_words.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/log/event_data.h"
#include "attestation/words/device_path.h"
#include "attestation/words/variable_words.h"
#include "attestation/words/windows_events.h"

namespace hf::attestation {
namespace {

constexpr size_t kPartitionsShown = 8;
constexpr size_t kItemsShown = 12;

bool whole(const Event& event) { return event.cover.form == CoverForm::kWhole; }

std::string quoted(ByteSpan text) {
  std::string shown = printable(text);
  return shown.empty() ? "empty" : fmt::format("“{}”", shown);
}

EventWords no_action(const Event& event) {
  std::string_view text = as_text(event.data);
  if (event.number == 0 && text.starts_with("Spec ID Event")) {
    std::string version = text.starts_with("Spec ID Event03") ? "crypto-agile" : "SHA-1 only";
    return {"log header", version, false};
  }
  if (text.starts_with("StartupLocality") && event.data.size() == 17) {
    return {"startup locality", fmt::format("{}", std::to_integer<int>(event.data.back())), false};
  }
  if (text.starts_with("SP800-155 Event")) {
    return {"reference to the maker's measurements (SP 800-155)", "", false};
  }
  auto items = windows_items(event);
  if (!items.empty()) return {"Windows record (not measured)", windows_name(items[0].id), false};
  return {"remark (not measured)", printable(event.data, 80), false};
}

EventWords separator(const Event& event) {
  if (is_error_separator(event)) return {"separator", "of an error", true};
  if (!is_separator(event)) return {"separator", "of a value that is none of a separator's", false};
  if (as_text(event.data) == "WBCL") {
    return {"separator", "the Windows loader hands over to the kernel", true};
  }
  return {"separator", event.pcr < 8 ? "the firmware's part ends here" : "", true};
}

EventWords image(const Event& event) {
  std::string title =
      event.type == EventType::kEfiBootServicesApplication ? "program loaded" : "driver loaded";
  auto read = image_event(event);
  if (!read) return {title, "no image load event", false};
  std::string path = describe_device_path(read->device_path);
  return {title, path.empty() ? "from memory" : path, false};
}

EventWords firmware_blob(const Event& event) {
  ByteSpan data = event.data;
  std::string name;
  if (event.type == EventType::kEfiPlatformFirmwareBlob2 && !data.empty()) {
    size_t size = std::to_integer<size_t>(data[0]);
    if (data.size() == 1 + size + 16) {
      name = quoted(data.subspan(1, size)) + " ";
      data = data.last(16);
    }
  }
  if (data.size() != 16) return {"firmware volume", printable(event.data), false};
  return {"firmware volume",
          fmt::format("{}at {:#x}, {} bytes", name, load_le<uint64_t>(data.data()),
                      load_le<uint64_t>(data.data() + 8)),
          false};
}

EventWords tables(const Event& event) {
  ByteSpan data = event.data;
  std::string name;
  if (event.type == EventType::kEfiHandoffTables2 && !data.empty()) {
    size_t size = std::to_integer<size_t>(data[0]);
    if (data.size() < 1 + size) return {"tables for the OS", "", false};
    name = quoted(data.subspan(1, size));
    data = data.subspan(1 + size);
  }
  std::string list;
  uint64_t count = data.size() < 8 ? 0 : load_le<uint64_t>(data.data());
  for (uint64_t i = 0; i < count && i < kItemsShown && 8 + (i + 1) * 24 <= data.size(); ++i) {
    list += (list.empty() ? "" : ", ") + table_name(Guid::load(data.data() + 8 + i * 24));
  }
  return {"tables for the OS", name.empty() ? list : name + " " + list, false};
}

EventWords partition_table(const Event& event) {
  auto table = gpt_table(event);
  if (!table) return {"partition table", "not readable", false};
  std::string list;
  for (size_t i = 0; i < table->partitions.size() && i < kPartitionsShown; ++i) {
    const GptPartition& part = table->partitions[i];
    std::string name = part.name.empty() ? "" : quoted(as_bytes(part.name)) + " ";
    list += fmt::format("{} {}{}", i == 0 ? ":" : ",", name, partition_type_name(part.type));
  }
  if (table->partitions.size() > kPartitionsShown) list += ", …";
  return {
      "partition table",
      fmt::format("disk {}, {} partitions{}", table->disk.text(), table->partitions.size(), list),
      true};
}

std::string_view loader_title(uint32_t pcr, std::string_view label) {
  if (pcr == 8 && label == "grub_cmd") return "GRUB command";
  if (label == "kernel_cmdline" || label == "grub_kernel_cmdline") return "kernel command line";
  if (label == "module_cmdline") return "module command line";
  if (pcr == 12) return "kernel command line";
  if (pcr == 11) return "UKI section";
  return "text measured by the boot loader";
}

EventWords loader(const Event& event) {
  auto ipl = ipl_text(event);
  if (!ipl) return {"boot loader", printable(event.data), false};
  if (ipl->covered) {
    // The label tells a command from a command line and is not proven; the text is.
    bool labelled = !ipl->label.empty();
    std::string text = printable(as_bytes(ipl->text));
    std::string_view title = loader_title(event.pcr, ipl->label);
    if (event.cover.form == CoverForm::kSectionName) return {"UKI section follows", text, true};
    if (labelled && title.starts_with("text")) text = fmt::format("{} ({})", text, ipl->label);
    return {std::string(title), text, true};
  }
  if (event.pcr == 14) return {"shim's list", ipl->label, false};
  if (event.pcr == 11) return {"UKI section", ipl->label, false};
  if (event.pcr == 9) return {"file read by the boot loader", ipl->label, false};
  if (event.pcr == 12 || event.pcr == 13)
    return {"archive passed to the kernel", ipl->label, false};
  return {"boot loader", ipl->label, false};
}

std::string_view tag_title(uint32_t id) {
  switch (id) {
    case 0x8f3b22ec:
      return "initrd loaded by the kernel's EFI stub";
    case 0x8f3b22ed:
      return "load options of the kernel's EFI stub";
    case 0xf5bc582a:
      return "systemd-boot's loader.conf";
    case 0x6c46f751:
      return "devicetree add-on of the UKI";
    case 0x49dffe0f:
      return "initrd add-on of the UKI";
    case 0xdac08e1a:
      return "microcode add-on of the UKI";
    case 0x13aed6db:
      return "profile of the UKI";
    case 0xd5cb7cbc:
      return "SMBIOS system information";
    case 0xe0d47bc8:
      return "SMBIOS baseboard information";
    case 0xc0b3bd23:
      return "SMBIOS OEM strings";
    default:
      return "";
  }
}

EventWords tag(const Event& event) {
  auto tagged = tagged_event(event);
  if (!tagged) return {"tagged event", printable(event.data), false};
  std::string_view title = tag_title(tagged->id);
  if (!title.empty()) return {std::string(title), printable(tagged->data), false};
  auto items = windows_items(event);
  if (items.empty())
    return {fmt::format("tag {:#010x}", tagged->id), printable(tagged->data), false};
  std::string list;
  size_t shown = 0;
  for (const WindowsItem& item : items) {
    if (item.container || shown == kItemsShown) continue;
    std::string value = windows_value(item);
    list += fmt::format("{}{}{}{}", list.empty() ? "" : ", ", windows_name(item.id),
                        value.empty() ? "" : " ", value);
    ++shown;
  }
  return {"Windows: " + windows_name(items[0].id), list, whole(event)};
}

EventWords version(const Event& event) {
  if (event.data.size() == 16) {
    return {"firmware version", Guid::load(event.data.data()).text(), whole(event)};
  }
  return {"firmware version", quoted(event.data), whole(event)};
}

EventWords text_event(const Event& event, std::string title) {
  bool text = std::ranges::all_of(as_text(event.data), [](char c) {
    return c == '\0' || static_cast<unsigned char>(c) >= ' ';
  });
  constexpr size_t kShown = 24;
  bool cut = event.data.size() > kShown;
  std::string detail =
      text ? printable(event.data)
           : to_hex(event.data.first(cut ? kShown : event.data.size())) + (cut ? "…" : "");
  return {std::move(title), std::move(detail), whole(event)};
}

}  // namespace

EventWords describe(const Event& event) {
  using enum EventType;
  switch (event.type) {
    case kNoAction:
      return no_action(event);
    case kSeparator:
      return separator(event);
    case kAction:
    case kEfiAction:
      return text_event(event, "firmware action");
    case kEventTag:
      return tag(event);
    case kSCrtmContents:
      return text_event(event, "root of trust: contents");
    case kSCrtmVersion:
      return version(event);
    case kCpuMicrocode:
      return text_event(event, "CPU microcode");
    case kPostCode:
    case kPostCode2:
      return event.data.size() == 16 ? firmware_blob(event) : text_event(event, "firmware code");
    case kPlatformConfigFlags:
      return text_event(event, "platform configuration");
    case kTableOfDevices:
      return text_event(event, "table of devices");
    case kCompactHash:
      return text_event(event, "measured by a BIOS call");
    case kIpl:
      return loader(event);
    case kIplPartitionData:
      return text_event(event, "boot loader: partition data");
    case kNonhostCode:
      return text_event(event, "code of another processor");
    case kNonhostConfig:
      return text_event(event, "configuration of another processor");
    case kNonhostInfo:
      return text_event(event, "information of another processor");
    case kOmitBootDeviceEvents:
      return text_event(event, "boot devices not measured");
    case kEfiVariableDriverConfig:
    case kEfiVariableBoot:
    case kEfiVariableBoot2:
    case kEfiVariableAuthority:
      return describe_variable(event);
    case kEfiBootServicesApplication:
    case kEfiBootServicesDriver:
    case kEfiRuntimeServicesDriver:
      return image(event);
    case kEfiGptEvent:
    case kEfiGptEvent2:
      return partition_table(event);
    case kEfiPlatformFirmwareBlob:
    case kEfiPlatformFirmwareBlob2:
      return firmware_blob(event);
    case kEfiHandoffTables:
    case kEfiHandoffTables2:
      return tables(event);
    case kEfiHcrtmEvent:
      return text_event(event, "hardware root of trust");
    case kEfiSpdmFirmwareBlob:
    case kEfiSpdmFirmwareConfig:
    case kEfiSpdmDevicePolicy:
    case kEfiSpdmDeviceAuthority:
      return text_event(event, "device measurement (SPDM)");
    default:
      return text_event(event, name_of(event.type));
  }
}

std::string_view pcr_purpose(uint32_t pcr) {
  static constexpr std::string_view kPurposes[] = {"firmware code",
                                                   "firmware configuration",
                                                   "drivers and option ROMs",
                                                   "their configuration",
                                                   "boot loader and programs",
                                                   "boot configuration, partitions",
                                                   "maker specific",
                                                   "Secure Boot policy",
                                                   "boot loader's commands",
                                                   "boot loader's files",
                                                   "IMA",
                                                   "unified kernel image, BitLocker",
                                                   "kernel parameters",
                                                   "system extensions",
                                                   "MOK",
                                                   "system identity"};
  return pcr < std::size(kPurposes) ? kPurposes[pcr] : std::string_view{};
}

}  // namespace hf::attestation
