// EFI_TIME (UEFI Specification 2.10, 8.3), as it stands in variables and updates.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"

namespace hf::secure_boot {

struct EfiTime {
  static constexpr size_t kSize = 16;
  uint16_t year = 0;
  uint8_t month = 0;
  uint8_t day = 0;
  uint8_t hour = 0;
  uint8_t minute = 0;
  uint8_t second = 0;
  uint8_t pad1 = 0;
  uint32_t nanosecond = 0;
  int16_t timezone = 0;
  uint8_t daylight = 0;
  uint8_t pad2 = 0;

  static EfiTime load(const std::byte* from);
  void store(std::byte* to) const;
  static EfiTime from(Micros time);  // UTC, whole seconds
  bool is_zero() const { return *this == EfiTime{}; }
  // An authenticated variable's time has nothing below seconds and no zone (UEFI 2.10, 8.2.2).
  bool is_plain() const;
  std::string text() const;  // 2011-06-27T21:22:45Z
  bool operator==(const EfiTime&) const = default;
};

// By year to second, as firmware compares them.
bool later(const EfiTime& a, const EfiTime& b);

}  // namespace hf::secure_boot
