#include "sys/typed_json.h"

#include <algorithm>
#include <cmath>

#include "base/base64.h"
#include "base/text.h"

namespace hf::sys::typed_json {
namespace {

constexpr size_t kQuotedMax = 64;  // of what a message says, in an error

std::string quoted(std::string_view text) { return '"' + clean_text(text, kQuotedMax) + '"'; }

std::string range(std::string_view what, const std::string& min, const std::string& max) {
  return "is " + std::string(what) + ", not from " + min + " to " + max;
}

bool has_control(std::string_view text) {
  while (!text.empty()) {
    const size_t size = utf8_character_size(text);
    if (size == 0 || is_control(text, size)) return true;
    text.remove_prefix(size);
  }
  return false;
}

std::string number_text(const JsonValue& value) {
  if (value.is_uint64()) return std::to_string(value.get_uint64());
  return std::to_string(value.get_int64());
}

}  // namespace

std::string Place::path() const {
  std::string path = in == nullptr ? "" : in->path();
  if (name.empty() && in == nullptr) return path;
  if (name.empty()) return path + "[" + std::to_string(index) + "]";
  if (!path.empty()) path += '.';
  return path + clean_text(name, kQuotedMax);
}

Error fault(const Place& at, std::string_view problem) {
  const std::string path = at.path();
  const std::string what = path.empty() ? "the message" : "member \"" + path + "\"";
  return Error{.code = ErrorCode::kInvalidArgument, .cause = what + " " + std::string(problem)};
}

Error unknown_member(const Place& at) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "unknown member \"" + at.path() + "\""};
}

Error unknown_word(const Place& at, std::string_view given,
                   std::span<const std::string_view> known) {
  std::string words;
  for (const std::string_view word : known) {
    if (!words.empty()) words += ", ";
    words += word;
  }
  return fault(at, "is " + quoted(given) + ", not one of " + words);
}

Result<uint64_t> read_unsigned(const JsonValue& value, const Place& at, const JsonBounds& bounds,
                               uint64_t type_max) {
  if (!value.is_int64() && !value.is_uint64()) return fault(at, "is not a whole number");
  const uint64_t max = std::min(bounds.max, type_max);
  const uint64_t min = bounds.min < 0 ? 0 : static_cast<uint64_t>(bounds.min);
  const bool negative = value.is_int64() && value.get_int64() < 0;
  const uint64_t number =
      value.is_uint64() ? value.get_uint64() : static_cast<uint64_t>(value.get_int64());
  if (negative || number < min || number > max) {
    return fault(at, range(number_text(value), std::to_string(min), std::to_string(max)));
  }
  return number;
}

Result<int64_t> read_signed(const JsonValue& value, const Place& at, const JsonBounds& bounds,
                            int64_t type_min, int64_t type_max) {
  if (!value.is_int64() && !value.is_uint64()) return fault(at, "is not a whole number");
  const int64_t min = std::max(bounds.min, type_min);
  const auto max = static_cast<int64_t>(std::min(bounds.max, static_cast<uint64_t>(type_max)));
  // boost::json reads as uint64 only what int64 does not hold.
  if (value.is_uint64() || value.get_int64() < min || value.get_int64() > max) {
    return fault(at, range(number_text(value), std::to_string(min), std::to_string(max)));
  }
  return value.get_int64();
}

Result<double> read_double(const JsonValue& value, const Place& at) {
  double number = 0;
  if (value.is_double()) {
    number = value.get_double();
  } else if (value.is_int64()) {
    number = static_cast<double>(value.get_int64());
  } else if (value.is_uint64()) {
    number = static_cast<double>(value.get_uint64());
  } else {
    return fault(at, "is not a number");
  }
  if (!std::isfinite(number)) return fault(at, "is not a finite number");
  return number;
}

Result<bool> read_bool(const JsonValue& value, const Place& at) {
  if (!value.is_bool()) return fault(at, "is not true or false");
  return value.get_bool();
}

Status check_string(std::string_view text, const Place& at, const JsonBounds& bounds) {
  if (text.size() < bounds.length_min || text.size() > bounds.length_max) {
    return fault(at, "has " + std::to_string(text.size()) + " bytes, not from " +
                         std::to_string(bounds.length_min) + " to " +
                         std::to_string(bounds.length_max));
  }
  if (bounds.text == JsonText::kLine && has_control(text)) {
    return fault(at, "has control characters");
  }
  return {};
}

Result<std::string> read_string(const JsonValue& value, const Place& at, const JsonBounds& bounds) {
  if (!value.is_string()) return fault(at, "is not a string");
  const std::string_view text = plain(value.get_string());
  if (bounds.text == JsonText::kShown) return clean_text(text, bounds.length_max);
  TRY(check_string(text, at, bounds));
  return std::string(text);
}

Result<Bytes> read_bytes(const JsonValue& value, const Place& at, const JsonBounds& bounds) {
  if (!value.is_string()) return fault(at, "is not a string");
  const std::string_view text = plain(value.get_string());
  const bool hex = bounds.bytes == JsonBytes::kHex;
  // Before anything is made of it: no more text than the longest bytes have.
  const size_t text_max = hex ? bounds.length_max * 2 : (bounds.length_max + 2) / 3 * 4;
  Result<Bytes> bytes = text.size() > text_max ? Result<Bytes>(Error{})
                        : hex                  ? from_hex(text)
                                               : base64_decode(text);
  if (text.size() > text_max ||
      (bytes.ok() && (bytes->size() < bounds.length_min || bytes->size() > bounds.length_max))) {
    return fault(at, "does not hold from " + std::to_string(bounds.length_min) + " to " +
                         std::to_string(bounds.length_max) + " bytes");
  }
  if (!bytes.ok()) return fault(at, hex ? "is not hexadecimal" : "is not base64");
  return bytes;
}

Status read_fixed(const JsonValue& value, const Place& at, MutableByteSpan to) {
  const Bytes bytes =
      TRY(read_bytes(value, at, {.length_min = to.size(), .length_max = to.size()}));
  std::ranges::copy(bytes, to.begin());
  return {};
}

Result<const JsonObject*> read_object(const JsonValue& value, const Place& at) {
  if (!value.is_object()) return fault(at, "is not an object");
  return &value.get_object();
}

Status check_items(size_t items, const Place& at, const JsonBounds& bounds) {
  if (items <= bounds.items_max) return {};
  return fault(at, "has " + std::to_string(items) + " entries, more than " +
                       std::to_string(bounds.items_max));
}

Result<const JsonArray*> read_array(const JsonValue& value, const Place& at,
                                    const JsonBounds& bounds) {
  if (!value.is_array()) return fault(at, "is not a list");
  TRY(check_items(value.get_array().size(), at, bounds));
  return &value.get_array();
}

JsonValue write_text(std::string_view text) { return JsonValue(boosted(text)); }

JsonValue write_bytes(ByteSpan bytes, JsonBytes how) {
  return write_text(how == JsonBytes::kHex ? to_hex(bytes) : base64_encode(bytes));
}

}  // namespace hf::sys::typed_json
