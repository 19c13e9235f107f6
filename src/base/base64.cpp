#include "base/base64.h"

namespace hf {
namespace {

constexpr std::string_view kStandard =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// What a character is worth at each place of its group of four.
constexpr uint32_t kNoValue = uint32_t{1} << 31;
using Values = std::array<std::array<uint32_t, 256>, 4>;

constexpr Values values_of(std::string_view alphabet) {
  Values values{};
  for (size_t place = 0; place < values.size(); ++place) {
    values[place].fill(kNoValue);
    for (uint32_t i = 0; i < alphabet.size(); ++i) {
      values[place][static_cast<unsigned char>(alphabet[i])] = i << (18 - 6 * place);
    }
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
  uint32_t seen = 0;
  const char* from = text.data();
  const auto value = [&](size_t place) {
    return values[place][static_cast<unsigned char>(from[place])];
  };
  for (const char* end = from + (text.size() - left); from != end; from += 4) {
    const uint32_t bits = value(0) | value(1) | value(2) | value(3);
    seen |= bits;
    *to++ = static_cast<std::byte>(bits >> 16);
    *to++ = static_cast<std::byte>(bits >> 8);
    *to++ = static_cast<std::byte>(bits);
  }
  if (left > 0) {
    const uint32_t bits = value(0) | value(1) | (left == 3 ? value(2) : 0);
    seen |= bits;
    *to++ = static_cast<std::byte>(bits >> 16);
    if (left == 3) *to++ = static_cast<std::byte>(bits >> 8);
    if ((bits & (left == 3 ? 0xffU : 0xffffU)) != 0) return not_base64();
  }
  if ((seen & kNoValue) != 0) return not_base64();
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
