#include "base/bytes.h"

namespace hf {

std::string to_hex(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(bytes.size() * 2, '0');
  char* to = text.data();
  for (std::byte b : bytes) {
    *to++ = kDigits[std::to_integer<unsigned>(b) >> 4];
    *to++ = kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

namespace {

constexpr std::array<int8_t, 256> kDigitValues = [] {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  for (int i = 0; i < 10; ++i) values[static_cast<size_t>('0' + i)] = static_cast<int8_t>(i);
  for (int i = 0; i < 6; ++i) {
    values[static_cast<size_t>('a' + i)] = static_cast<int8_t>(10 + i);
    values[static_cast<size_t>('A' + i)] = static_cast<int8_t>(10 + i);
  }
  return values;
}();

}  // namespace

Result<Bytes> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "hex text has an odd length"};
  }
  Bytes bytes(text.size() / 2);
  int seen = 0;  // below zero as soon as one character is no digit
  const auto value = [&](size_t at) {
    const int found = kDigitValues[static_cast<unsigned char>(text[at])];
    seen |= found;
    return static_cast<unsigned>(found) & 15;
  };
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(value(2 * i) << 4 | value(2 * i + 1));
  }
  if (seen < 0) return Error{.code = ErrorCode::kInvalidArgument, .cause = "text is not hex"};
  return bytes;
}

}  // namespace hf
