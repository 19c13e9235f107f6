#include "secure_boot/efi/efi_time.h"

#include <fmt/format.h>

#include <ctime>
#include <tuple>

namespace hf::secure_boot {

EfiTime EfiTime::load(const std::byte* from) {
  return EfiTime{.year = load_le<uint16_t>(from),
                 .month = static_cast<uint8_t>(from[2]),
                 .day = static_cast<uint8_t>(from[3]),
                 .hour = static_cast<uint8_t>(from[4]),
                 .minute = static_cast<uint8_t>(from[5]),
                 .second = static_cast<uint8_t>(from[6]),
                 .pad1 = static_cast<uint8_t>(from[7]),
                 .nanosecond = load_le<uint32_t>(from + 8),
                 .timezone = static_cast<int16_t>(load_le<uint16_t>(from + 12)),
                 .daylight = static_cast<uint8_t>(from[14]),
                 .pad2 = static_cast<uint8_t>(from[15])};
}

void EfiTime::store(std::byte* to) const {
  store_le<uint16_t>(to, year);
  to[2] = static_cast<std::byte>(month);
  to[3] = static_cast<std::byte>(day);
  to[4] = static_cast<std::byte>(hour);
  to[5] = static_cast<std::byte>(minute);
  to[6] = static_cast<std::byte>(second);
  to[7] = static_cast<std::byte>(pad1);
  store_le<uint32_t>(to + 8, nanosecond);
  store_le<uint16_t>(to + 12, static_cast<uint16_t>(timezone));
  to[14] = static_cast<std::byte>(daylight);
  to[15] = static_cast<std::byte>(pad2);
}

EfiTime EfiTime::from(Micros time) {
  const auto seconds = static_cast<time_t>(time.value / 1'000'000);
  tm parts{};
  HF_ASSERT(gmtime_r(&seconds, &parts) != nullptr);
  return EfiTime{.year = static_cast<uint16_t>(parts.tm_year + 1900),
                 .month = static_cast<uint8_t>(parts.tm_mon + 1),
                 .day = static_cast<uint8_t>(parts.tm_mday),
                 .hour = static_cast<uint8_t>(parts.tm_hour),
                 .minute = static_cast<uint8_t>(parts.tm_min),
                 .second = static_cast<uint8_t>(parts.tm_sec)};
}

bool EfiTime::is_plain() const {
  return pad1 == 0 && nanosecond == 0 && timezone == 0 && daylight == 0 && pad2 == 0;
}

std::string EfiTime::text() const {
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", year, month, day, hour, minute,
                     second);
}

bool later(const EfiTime& a, const EfiTime& b) {
  const auto key = [](const EfiTime& t) {
    return std::tuple(t.year, t.month, t.day, t.hour, t.minute, t.second);
  };
  return key(a) > key(b);
}

}  // namespace hf::secure_boot
