#include "secure_boot/disk/fat_directory.h"

#include <algorithm>

#include "secure_boot/disk/gpt.h"

namespace hf::secure_boot {
namespace {

constexpr uint8_t kVolumeLabel = 0x08;
constexpr uint8_t kDirectory = 0x10;
constexpr uint8_t kLongName = 0x0F;
constexpr uint8_t kLastLong = 0x40;
constexpr size_t kUnitsPerLong = 13;
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

// Gathers the pieces of a long name, which stand before their short entry, last piece first.
class LongName {
 public:
  void clear() { expected_ = 0; }

  void add(const std::byte* raw) {
    const uint8_t order = load_le<uint8_t>(raw);
    const uint8_t number = order & 0x3F;
    const uint8_t checksum = load_le<uint8_t>(raw + 13);
    if ((order & kLastLong) != 0 && number >= 1 && number <= kLongEntriesMax) {
      units_.assign(number * kUnitsPerLong * 2, std::byte{0});
      checksum_ = checksum;
      expected_ = number;
      complete_ = false;
    } else if (expected_ == 0 || complete_ || number != expected_ || checksum != checksum_) {
      expected_ = 0;
      return;
    }
    std::byte* to = units_.data() + (number - 1) * kUnitsPerLong * 2;
    std::copy_n(raw + 1, 10, to);
    std::copy_n(raw + 14, 12, to + 10);
    std::copy_n(raw + 28, 4, to + 22);
    if (number == 1) {
      complete_ = true;
    } else {
      --expected_;
    }
  }

  bool belongs_to(const std::byte* raw) const {
    return expected_ == 1 && complete_ && checksum_ == short_checksum(raw);
  }
  std::string text() const { return utf8_from_utf16(units_); }

 private:
  Bytes units_;
  uint8_t checksum_ = 0;
  uint8_t expected_ = 0;  // the number of the piece that is being waited for; 0: no name
  bool complete_ = false;
};

}  // namespace

std::vector<FatEntry> parse_fat_directory(ByteSpan raw) {
  std::vector<FatEntry> entries;
  LongName long_name;
  for (size_t at = 0; at + kFatEntrySize <= raw.size(); at += kFatEntrySize) {
    const std::byte* entry = raw.data() + at;
    const uint8_t first = load_le<uint8_t>(entry);
    const uint8_t attributes = load_le<uint8_t>(entry + 11);
    if (first == 0) break;
    if (first == 0xE5) {
      long_name.clear();
      continue;
    }
    if ((attributes & 0x3F) == kLongName) {
      long_name.add(entry);
      continue;
    }
    if ((attributes & kVolumeLabel) == 0 && first != '.') {
      FatEntry file;
      file.short_name = short_name(entry);
      file.name = long_name.belongs_to(entry) ? long_name.text() : file.short_name;
      file.is_directory = (attributes & kDirectory) != 0;
      file.size = file.is_directory ? 0 : load_le<uint32_t>(entry + 28);
      file.cluster = (static_cast<uint32_t>(load_le<uint16_t>(entry + 20)) << 16 |
                      load_le<uint16_t>(entry + 26)) &
                     0x0FFFFFFF;
      entries.push_back(std::move(file));
    }
    long_name.clear();
  }
  return entries;
}

}  // namespace hf::secure_boot
