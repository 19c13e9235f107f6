#include "base/base64.h"

namespace hf {
namespace {

constexpr std::string_view kStandard =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

using Values = std::array<int8_t, 256>;

constexpr Values values_of(std::string_view alphabet) {
  Values values{};
  values.fill(-1);
  for (size_t i = 0; i < alphabet.size(); ++i) {
    values[static_cast<unsigned char>(alphabet[i])] = static_cast<int8_t>(i);
  }
  return values;
}

constexpr Values kStandardValues = values_of(kStandard);
constexpr Values kUrlValues = values_of(kUrl);

std::string encode(ByteSpan bytes, std::string_view alphabet, bool padded) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  uint32_t bits = 0;
  unsigned held = 0;  // bits not written yet
  for (std::byte byte : bytes) {
    bits = bits << 8 | std::to_integer<uint32_t>(byte);
    for (held += 8; held >= 6; held -= 6) text += alphabet[bits >> (held - 6) & 63];
  }
  if (held > 0) text += alphabet[bits << (6 - held) & 63];
  while (padded && text.size() % 4 != 0) text += '=';
  return text;
}

Error not_base64() {
  return {.code = ErrorCode::kInvalidArgument, .cause = "a text that is not base64"};
}

Result<Bytes> decode(std::string_view text, const Values& values) {
  if (text.size() % 4 == 1) return not_base64();
  Bytes bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  unsigned held = 0;
  for (char c : text) {
    int8_t value = values[static_cast<unsigned char>(c)];
    if (value < 0) return not_base64();
    bits = bits << 6 | static_cast<uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes.push_back(static_cast<std::byte>(bits >> held));
    }
  }
  if ((bits & ((1U << held) - 1)) != 0) return not_base64();
  return bytes;
}

}  // namespace

std::string base64_encode(ByteSpan bytes) { return encode(bytes, kStandard, true); }
std::string base64url_encode(ByteSpan bytes) { return encode(bytes, kUrl, false); }

Result<Bytes> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return not_base64();
  size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  return decode(text, kStandardValues);
}

Result<Bytes> base64url_decode(std::string_view text) { return decode(text, kUrlValues); }

}  // namespace hf
