#include "base/text.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace hf {

size_t utf8_character_size(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) return 0;
  uint32_t code = byte(0) & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code < kLeast[size] || code > 0x10ffff || surrogate ? 0 : size;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    size_t size = utf8_character_size(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

bool is_control(std::string_view text, size_t size) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (size == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
  if (size == 2) return (byte(0) == 0xc2 && byte(1) < 0xa0) || text.starts_with("\u061c");
  if (size != 3 || byte(0) != 0xe2) return false;
  const uint32_t code = 0x2000u | (byte(1) & 0x3fu) << 6 | (byte(2) & 0x3fu);
  return code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2066 && code <= 0x2069);
}

std::string clean_text(std::string_view text, size_t size_max) {
  std::string out;
  while (!text.empty()) {
    size_t size = utf8_character_size(text);
    std::string_view piece = size == 0 ? "?" : is_control(text, size) ? " " : text.substr(0, size);
    if (out.size() + piece.size() > size_max) break;
    out += piece;
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return out;
}

std::string duration_words(uint64_t us) {
  const uint64_t seconds = us / 1'000'000;
  const uint64_t minutes = seconds / 60;
  const uint64_t hours = minutes / 60;
  const uint64_t days = hours / 24;
  const auto and_some = [](uint64_t rest, const char* unit) {
    return rest == 0 ? std::string() : " " + std::to_string(rest) + unit;
  };
  if (minutes == 0) return std::to_string(seconds) + " s";
  if (hours == 0) return std::to_string(minutes) + " min";
  if (days == 0) return std::to_string(hours) + " h" + and_some(minutes % 60, " min");
  if (days == 1) return "1 day" + and_some(hours % 24, " h");
  return std::to_string(days) + " days" + (days < 10 ? and_some(hours % 24, " h") : "");
}

}  // namespace hf
