// Small EFI programs made in memory, for tests only.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "secure_boot/image/pe_image.h"

namespace hf::secure_boot {

struct TestSection {
  std::string name;
  Bytes content;
  uint32_t virtual_size = 0;  // 0: the content's
  // Stands for bytes of the file that are there already, instead of content.
  uint32_t raw_offset = 0;
  uint32_t raw_size = 0;
};

// Headers of 16 KiB, then the sections' contents.
inline Bytes test_program(const std::vector<TestSection>& sections,
                          uint32_t size_of_image = 0x8000'0000, uint16_t machine = kPeMachineX64,
                          uint16_t subsystem = kPeSubsystemEfiApplication) {
  constexpr size_t kPe = 64;
  constexpr size_t kOptional = kPe + 24;
  constexpr size_t kTable = kOptional + 112 + 16 * 8;
  constexpr size_t kHeaders = 16384;
  Bytes file(kHeaders);
  store_le<uint16_t>(file.data(), 0x5A4D);
  store_le<uint32_t>(file.data() + 60, kPe);
  store_le<uint32_t>(file.data() + kPe, 0x00004550);
  store_le<uint16_t>(file.data() + kPe + 4, machine);
  store_le<uint16_t>(file.data() + kPe + 6, static_cast<uint16_t>(sections.size()));
  store_le<uint16_t>(file.data() + kPe + 20, 240);
  store_le<uint16_t>(file.data() + kOptional, 0x20B);
  store_le<uint32_t>(file.data() + kOptional + 56, size_of_image);
  store_le<uint32_t>(file.data() + kOptional + 60, kHeaders);
  store_le<uint16_t>(file.data() + kOptional + 68, subsystem);
  store_le<uint32_t>(file.data() + kOptional + 108, 16);
  for (size_t index = 0; index < sections.size(); ++index) {
    const TestSection& section = sections[index];
    auto size = static_cast<uint32_t>(section.content.size());
    auto at = static_cast<uint32_t>(file.size());
    if (section.raw_size != 0) {
      size = section.raw_size;
      at = section.raw_offset;
    } else {
      file.insert(file.end(), section.content.begin(), section.content.end());
    }
    std::byte* raw = file.data() + kTable + index * 40;
    std::ranges::copy(as_bytes(section.name), raw);
    store_le<uint32_t>(raw + 8, section.virtual_size != 0 ? section.virtual_size : size);
    store_le<uint32_t>(raw + 12, kHeaders);
    store_le<uint32_t>(raw + 16, size);
    store_le<uint32_t>(raw + 20, size == 0 ? 0 : at);
  }
  return file;
}

}  // namespace hf::secure_boot
