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
  const size_t bare = (bytes.size() * 4 + 2) / 3;
  std::string text(padded ? (bytes.size() + 2) / 3 * 4 : bare, '=');
  char* to = text.data();
  uint32_t bits = 0;
  unsigned held = 0;  // bits not written yet
  for (std::byte byte : bytes) {
    bits = bits << 8 | std::to_integer<uint32_t>(byte);
    for (held += 8; held >= 6; held -= 6) *to++ = alphabet[bits >> (held - 6) & 63];
  }
  if (held > 0) *to++ = alphabet[bits << (6 - held) & 63];
  HF_ASSERT(to == text.data() + bare);
  return text;
}

Error not_base64() {
  return {.code = ErrorCode::kInvalidArgument, .cause = "a text that is not base64"};
}

// Groups of four characters at a time: evidence brings its event log as base64.
Result<Bytes> decode(std::string_view text, const Values& values) {
  const size_t left = text.size() % 4;
  if (left == 1) return not_base64();
  Bytes bytes(text.size() / 4 * 3 + (left == 0 ? 0 : left - 1));
  std::byte* to = bytes.data();
  // Below zero as soon as one character has no value.
  int32_t seen = 0;
  const auto value = [&](size_t at) {
    const int32_t found = values[static_cast<unsigned char>(text[at])];
    seen |= found;
    return static_cast<uint32_t>(found) & 63;
  };
  size_t at = 0;
  for (; at + 4 <= text.size(); at += 4) {
    const uint32_t bits =
        value(at) << 18 | value(at + 1) << 12 | value(at + 2) << 6 | value(at + 3);
    *to++ = static_cast<std::byte>(bits >> 16);
    *to++ = static_cast<std::byte>(bits >> 8);
    *to++ = static_cast<std::byte>(bits);
  }
  if (left > 0) {
    uint32_t bits = value(at) << 18 | value(at + 1) << 12;
    if (left == 3) bits |= value(at + 2) << 6;
    *to++ = static_cast<std::byte>(bits >> 16);
    if (left == 3) *to++ = static_cast<std::byte>(bits >> 8);
    if ((bits & (left == 3 ? 0xffU : 0xffffU)) != 0) return not_base64();
  }
  if (seen < 0) return not_base64();
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
