#include "secure_boot/disk/fat_directory.h"

#include <algorithm>

#include "secure_boot/disk/gpt.h"

namespace hf::secure_boot {
namespace {

constexpr uint8_t kDeleted = 0xE5;
constexpr uint8_t kVolumeLabel = 0x08;  // which entries of long names have, too
constexpr uint8_t kDirectory = 0x10;
constexpr uint8_t kLongName = 0x0F;
constexpr uint8_t kLastLong = 0x40;
constexpr size_t kLongEntriesMax = 20;

uint8_t short_checksum(const std::byte* name) {
  uint8_t sum = 0;
  for (size_t i = 0; i < 11; ++i) {
    sum = static_cast<uint8_t>(((sum & 1) << 7) + (sum >> 1) + static_cast<uint8_t>(name[i]));
  }
  return sum;
}

std::string short_part(const std::byte* from, size_t size, bool lower) {
  std::string out;
  for (size_t i = 0; i < size; ++i) {
    char c = static_cast<char>(from[i]);
    if (lower && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    out.push_back(c > 0x20 && c < 0x7F ? c : (c == ' ' ? ' ' : '?'));
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

std::string short_name(const std::byte* raw) {
  const uint8_t flags = load_le<uint8_t>(raw + 12);  // Windows NT's: which half is lower case
  std::string name = short_part(raw, 8, (flags & 0x08) != 0);
  const std::string extension = short_part(raw + 8, 3, (flags & 0x10) != 0);
  if (!extension.empty()) name += "." + extension;
  return name;
}

// FatLoadLongNameEntry(): the pieces stand in front of their short entry, the last of them first.
// Empty: they do not belong to it, or there are none.
std::string long_name(ByteSpan raw, size_t short_at) {
  const uint8_t checksum = short_checksum(raw.data() + short_at);
  Bytes units;
  for (size_t number = 1; number * kFatEntrySize <= short_at && number <= kLongEntriesMax;
       ++number) {
    const std::byte* piece = raw.data() + short_at - number * kFatEntrySize;
    const uint8_t order = load_le<uint8_t>(piece);
    if (load_le<uint8_t>(piece + 11) != kLongName || load_le<uint16_t>(piece + 26) != 0 ||
        load_le<uint8_t>(piece + 13) != checksum || (order & ~kLastLong) != number) {
      return {};
    }
    units.insert(units.end(), piece + 1, piece + 11);
    units.insert(units.end(), piece + 14, piece + 26);
    units.insert(units.end(), piece + 28, piece + 32);
    if ((order & kLastLong) != 0) return utf8_from_utf16(units);
  }
  return {};
}

bool has_small_letter(ByteSpan raw) {
  return std::ranges::any_of(
      raw, [](std::byte b) { return b >= std::byte{'a'} && b <= std::byte{'z'}; });
}

}  // namespace

// FatLoadNextDirEnt()
std::vector<FatEntry> parse_fat_directory(ByteSpan raw, bool& ended) {
  std::vector<FatEntry> entries;
  for (size_t at = 0; at + kFatEntrySize <= raw.size(); at += kFatEntrySize) {
    const std::byte* entry = raw.data() + at;
    const uint8_t first = load_le<uint8_t>(entry);
    const uint8_t attributes = load_le<uint8_t>(entry + 11);
    // Asked first: the mark of the end counts only where a file may stand.
    if (first == kDeleted || (attributes & kVolumeLabel) != 0) continue;
    if (first == 0) {
      ended = true;
      break;
    }
    FatEntry file;
    file.short_name = short_name(entry);
    if (file.short_name == "." || file.short_name == "..") continue;
    file.name = long_name(raw, at);
    if (file.name.empty()) file.name = file.short_name;
    file.found_by_short_name = !has_small_letter(ByteSpan(entry, 11));
    file.is_directory = (attributes & kDirectory) != 0;
    file.size = file.is_directory ? 0 : load_le<uint32_t>(entry + 28);
    file.cluster =
        static_cast<uint32_t>(load_le<uint16_t>(entry + 20)) << 16 | load_le<uint16_t>(entry + 26);
    entries.push_back(std::move(file));
  }
  return entries;
}

}  // namespace hf::secure_boot
