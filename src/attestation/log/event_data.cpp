#include "attestation/log/event_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"

namespace hf::attestation {
namespace {

constexpr size_t kVariableHeaderSize = 32;
constexpr size_t kVariablePaddingMax = 8;
constexpr size_t kVariableNameUnitsMax = 1024;
constexpr size_t kImageHeaderSize = 32;
constexpr size_t kTagHeaderSize = 8;
constexpr size_t kGptHeaderSize = 92;
constexpr size_t kGptEntrySize = 128;
constexpr size_t kGptPartitionsMax = 1024;
constexpr uint32_t kFirmwarePcrLast = 7;

void append_utf8(std::string& text, uint32_t point) {
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xc0 | (point >> 6));
    text += static_cast<char>(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    text += static_cast<char>(0xe0 | (point >> 12));
    text += static_cast<char>(0x80 | ((point >> 6) & 0x3f));
    text += static_cast<char>(0x80 | (point & 0x3f));
  } else {
    text += static_cast<char>(0xf0 | (point >> 18));
    text += static_cast<char>(0x80 | ((point >> 12) & 0x3f));
    text += static_cast<char>(0x80 | ((point >> 6) & 0x3f));
    text += static_cast<char>(0x80 | (point & 0x3f));
  }
}

bool covers(const Event& event, ByteSpan part) {
  ByteSpan proven = event.cover.bytes;
  if (!event.cover.covered()) return false;
  return part.data() >= proven.data() && part.data() + part.size() <= proven.data() + proven.size();
}

// UTF-16LE ASCII text: every second byte zero.
bool looks_utf16(ByteSpan text) {
  if (text.size() < 2 || text.size() % 2 != 0) return false;
  return text[0] != std::byte{} && text[1] == std::byte{};
}

}  // namespace

std::string utf8_of_utf16(ByteSpan utf16) {
  std::string text;
  for (size_t i = 0; i + 1 < utf16.size(); i += 2) {
    uint32_t unit = load_le<uint16_t>(utf16.data() + i);
    if (unit == 0) break;
    bool high = unit >= 0xd800 && unit < 0xdc00;
    if (high && i + 3 < utf16.size()) {
      uint32_t low = load_le<uint16_t>(utf16.data() + i + 2);
      if (low >= 0xdc00 && low < 0xe000) {
        append_utf8(text, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
        i += 2;
        continue;
      }
    }
    append_utf8(text, unit >= 0xd800 && unit < 0xe000 ? 0xfffd : unit);
  }
  return text;
}

std::string printable(ByteSpan bytes, size_t size_max) {
  std::string converted;
  std::string_view text = as_text(bytes);
  if (looks_utf16(bytes)) {
    converted = utf8_of_utf16(bytes);
    text = converted;
  }
  text = text.substr(0, text.find('\0'));
  std::string out;
  while (!text.empty()) {
    if (out.size() >= size_max) return out + "…";
    size_t size = utf8_character_size(text);
    if (size == 0 || is_control(text, size)) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[0]));
      size = 1;
    } else {
      out += text.substr(0, size);
    }
    text.remove_prefix(size);
  }
  return out;
}

std::optional<EfiVariable> efi_variable(const Event& event) {
  ByteSpan data = event.data;
  if (!event.measured() || event.pcr > kFirmwarePcrLast || data.size() < kVariableHeaderSize) {
    return std::nullopt;
  }
  auto units = load_le<uint64_t>(data.data() + 16);
  auto size = load_le<uint64_t>(data.data() + 24);
  size_t rest = data.size() - kVariableHeaderSize;
  if (units > kVariableNameUnitsMax || units > rest / 2 || size > rest - units * 2 ||
      rest - units * 2 - size > kVariablePaddingMax) {
    return std::nullopt;
  }
  EfiVariable variable;
  ByteSpan head = data.first(kVariableHeaderSize + units * 2);
  variable.guid = Guid::load(data.data());
  variable.name = utf8_of_utf16(head.subspan(kVariableHeaderSize));
  variable.data = data.subspan(head.size(), size);
  variable.name_covered = covers(event, head);
  variable.data_covered = covers(event, variable.data);
  return variable;
}

std::optional<ImageEvent> image_event(const Event& event) {
  bool image = event.type == EventType::kEfiBootServicesApplication ||
               event.type == EventType::kEfiBootServicesDriver ||
               event.type == EventType::kEfiRuntimeServicesDriver;
  ByteSpan data = event.data;
  if (!image || data.size() < kImageHeaderSize) return std::nullopt;
  if (load_le<uint64_t>(data.data() + 24) != data.size() - kImageHeaderSize) return std::nullopt;
  return ImageEvent{.location = load_le<uint64_t>(data.data()),
                    .length = load_le<uint64_t>(data.data() + 8),
                    .link_time_address = load_le<uint64_t>(data.data() + 16),
                    .device_path = data.subspan(kImageHeaderSize)};
}

std::optional<IplText> ipl_text(const Event& event) {
  if (!event.measured() || event.pcr <= kFirmwarePcrLast) return std::nullopt;
  if (tagged_event(event) || is_separator(event)) return std::nullopt;
  IplText ipl;
  ByteSpan data = event.data;
  ipl.covered = event.cover.covered();
  if (!ipl.covered) {
    if (event.type != EventType::kIpl) return std::nullopt;
    ipl.label = printable(data);
    return ipl;
  }
  ByteSpan text = event.cover.bytes;
  ipl.text = looks_utf16(text) ? utf8_of_utf16(text) : std::string(as_text(text));
  while (!ipl.text.empty() && ipl.text.back() == '\0') ipl.text.pop_back();
  size_t label_size = static_cast<size_t>(text.data() - data.data());
  std::string label = printable(data.first(label_size));
  while (!label.empty() && (label.back() == ' ' || label.back() == ':')) label.pop_back();
  ipl.label = std::move(label);
  return ipl;
}

std::optional<TaggedEvent> tagged_event(const Event& event) {
  ByteSpan data = event.data;
  bool covered =
      event.measured() && event.pcr > kFirmwarePcrLast && event.cover.form == CoverForm::kWhole;
  if (!covered && event.type != EventType::kEventTag) return std::nullopt;
  if (data.size() < kTagHeaderSize) return std::nullopt;
  if (load_le<uint32_t>(data.data() + 4) != data.size() - kTagHeaderSize) return std::nullopt;
  return TaggedEvent{.id = load_le<uint32_t>(data.data()),
                     .data = data.subspan(kTagHeaderSize),
                     .covered = covered};
}

std::optional<std::string_view> action_text(const Event& event) {
  if (!event.measured() || event.cover.form != CoverForm::kWhole) return std::nullopt;
  std::string_view text = as_text(event.data);
  bool plain = std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
  if (text.empty() || !plain) return std::nullopt;
  return text;
}

bool is_separator(const Event& event) {
  if (!event.measured() || event.cover.form != CoverForm::kWhole || event.data.size() != 4) {
    return false;
  }
  auto value = load_le<uint32_t>(event.data.data());
  return value == 0 || value == 0xffffffff || as_text(event.data) == "WBCL";
}

bool is_error_separator(const Event& event) {
  constexpr std::array<std::byte, 4> kError = {std::byte{1}, std::byte{0}, std::byte{0},
                                               std::byte{0}};
  bool any = false;
  for (const DigestView& digest : event.digests()) {
    if (size_of(digest.alg) == 0) continue;
    if (!equal(hash(digest.alg, kError).bytes(), digest.bytes)) return false;
    any = true;
  }
  return any && event.measured();
}

// EFI_PARTITION_TABLE_HEADER (UEFI 2.10 §5.3.2), u64 count, EFI_PARTITION_ENTRY…
std::optional<GptTable> gpt_table(const Event& event) {
  ByteSpan data = event.data;
  if (!event.measured() || event.cover.form != CoverForm::kWhole) return std::nullopt;
  if (data.size() < kGptHeaderSize + 8 || !as_text(data).starts_with("EFI PART")) {
    return std::nullopt;
  }
  auto count = load_le<uint64_t>(data.data() + kGptHeaderSize);
  ByteSpan entries = data.subspan(kGptHeaderSize + 8);
  if (count > kGptPartitionsMax || entries.size() != count * kGptEntrySize) return std::nullopt;
  GptTable table;
  table.disk = Guid::load(data.data() + 56);
  for (size_t i = 0; i < count; ++i) {
    const std::byte* entry = entries.data() + i * kGptEntrySize;
    table.partitions.push_back({.type = Guid::load(entry),
                                .id = Guid::load(entry + 16),
                                .first_block = load_le<uint64_t>(entry + 32),
                                .last_block = load_le<uint64_t>(entry + 40),
                                .name = utf8_of_utf16(ByteSpan(entry + 56, 72))});
  }
  return table;
}

}  // namespace hf::attestation
