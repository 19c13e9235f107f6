// Typed JSON messages: a struct says once what its members are called and what they may hold, and
// both directions come from that.
//
//   enum class Mode { kCreate, kServe };
//   constexpr auto json_words(sys::JsonOf<Mode>) {
//     return std::array{sys::JsonWord{"create", Mode::kCreate}, sys::JsonWord{"serve",
//     Mode::kServe}};
//   }
//   struct Volume { VolumeId id; std::string name; std::optional<uint64_t> size_bytes; };
//   constexpr auto json_members(sys::JsonOf<Volume>) {
//     return std::tuple(sys::json_member("id", &Volume::id, {.min = 1}),
//                       sys::json_member("name", &Volume::name, {.length_min = 1, .length_max =
//                       64}), sys::json_member("size_bytes", &Volume::size_bytes, {.max =
//                       kSizeMax}));
//   }
//   Result<Volume> volume = sys::decode_json<Volume>(text);
//
// The two functions stand in the namespace of their type, before its first use. An optional second
// look at the whole, `Status json_check(const Volume&)`, is called after each decoding.
//
// Held without being said: unknown members are refused by name, as is a member named twice; what is
// missing is named; a whole number is from 0 to kJsonNumberMax, a string one line of UTF-8 without
// control characters. Errors (kInvalidArgument; kLimit for a text that is too long as a whole) give
// the member's path and why: `member "volumes[3].id" is 0, not from 1 to 4294967295`. What is
// quoted of a message is cleaned and cut. Encoding checks nothing: whoever decodes does.
//
//   bool, integers, double (finite)            as in JSON
//   StrongNumber (Epoch, Sequence, Micros …)   whole number
//   StrongBytes (VmId, SiteId, Digest …),
//   std::array<std::byte, N>                   hex of exactly that length
//   std::string, enums by their words          string
//   Bytes                                      hex or base64
//   std::vector, std::map<std::string, T>      array, object
//   std::optional                              left out (or null when read)
//   described structs, Error, JsonObject/Value object; Error as sys::error_to_json (cleaned when
//                                              read), the last two as they are, for what another
//                                              layer describes
#pragma once

#include <array>
#include <concepts>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "sys/json.h"

namespace hf::sys {

// What a description is found by.
template <typename T>
struct JsonOf {};

// Numbers that count up from what a peer says never come near the end of their type.
inline constexpr uint64_t kJsonNumberMax = uint64_t{1} << 62;

// kAny: control characters too. kShown: words for people, cleaned and cut to the length instead of
// refused (clean_text).
enum class JsonText : uint8_t { kLine, kAny, kShown };
enum class JsonBytes : uint8_t { kHex, kBase64 };

// Those that do not fit a member's type say nothing. Of a list, a map or an optional they hold for
// what is inside, too.
struct JsonBounds {
  int64_t min = 0;  // of whole numbers, both ends included
  uint64_t max = kJsonNumberMax;
  size_t length_min = 0;  // of strings (bytes of UTF-8), Bytes (decoded) and a map's keys
  size_t length_max = 4096;
  size_t items_max = 1024;  // of lists and maps
  JsonText text = JsonText::kLine;
  JsonBytes bytes = JsonBytes::kHex;
};

template <typename Struct, typename T>
struct JsonMember {
  std::string_view name;
  T Struct::* pointer;
  JsonBounds bounds;
  bool has_default;
};

template <typename Struct, typename T>
constexpr JsonMember<Struct, T> json_member(std::string_view name, T Struct::* pointer,
                                            JsonBounds bounds = {}) {
  return {name, pointer, bounds, false};
}
// May be left out by whoever writes: the struct then keeps what it was made with.
template <typename Struct, typename T>
constexpr JsonMember<Struct, T> json_member_or_default(std::string_view name, T Struct::* pointer,
                                                       JsonBounds bounds = {}) {
  return {name, pointer, bounds, true};
}

template <typename E>
struct JsonWord {
  std::string_view word;
  E value;
};

template <typename T>
concept JsonDescribed = requires { json_members(JsonOf<T>{}); };
template <typename T>
concept JsonWorded = std::is_enum_v<T> && requires { json_words(JsonOf<T>{}); };

template <JsonWorded E>
constexpr std::string_view json_word(E value) {
  for (const auto& known : json_words(JsonOf<E>{})) {
    if (known.value == value) return known.word;
  }
  HF_ASSERT(false);
  return {};
}

namespace typed_json {

// Where in a message: a chain on the stack, read only when there is something to say.
struct Place {
  const Place* in = nullptr;
  std::string_view name = {};
  size_t index = 0;  // where the name is empty: of a list
  std::string path() const;
};

Error fault(const Place& at, std::string_view problem);
Error unknown_member(const Place& at);
Error unknown_word(const Place& at, std::string_view given,
                   std::span<const std::string_view> known);

Result<uint64_t> read_unsigned(const JsonValue&, const Place&, const JsonBounds&,
                               uint64_t type_max);
Result<int64_t> read_signed(const JsonValue&, const Place&, const JsonBounds&, int64_t type_min,
                            int64_t type_max);
Result<double> read_double(const JsonValue&, const Place&);
Result<bool> read_bool(const JsonValue&, const Place&);
Result<std::string> read_string(const JsonValue&, const Place&, const JsonBounds&);
Status check_string(std::string_view text, const Place&, const JsonBounds&);
Result<Bytes> read_bytes(const JsonValue&, const Place&, const JsonBounds&);
Status read_fixed(const JsonValue&, const Place&, MutableByteSpan to);
Result<const JsonObject*> read_object(const JsonValue&, const Place&);
Result<const JsonArray*> read_array(const JsonValue&, const Place&, const JsonBounds&);
Status check_items(size_t items, const Place&, const JsonBounds&);
JsonValue write_bytes(ByteSpan bytes, JsonBytes how);
JsonValue write_text(std::string_view text);
inline std::string_view plain(boost::json::string_view text) { return {text.data(), text.size()}; }
inline boost::json::string_view boosted(std::string_view text) {
  return {text.data(), text.size()};
}

template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsList = false;
template <typename T>
inline constexpr bool kIsList<std::vector<T>> = !std::is_same_v<T, std::byte>;
template <typename T>
inline constexpr bool kIsMap = false;
template <typename T>
inline constexpr bool kIsMap<std::map<std::string, T>> = true;
template <typename T>
inline constexpr bool kIsFixedBytes = false;
template <size_t N>
inline constexpr bool kIsFixedBytes<std::array<std::byte, N>> = true;
template <typename T>
inline constexpr bool kIsStrongBytes = false;
template <typename Tag, size_t N>
inline constexpr bool kIsStrongBytes<StrongBytes<Tag, N>> = true;
template <typename T>
inline constexpr bool kIsStrongNumber = false;
template <typename Tag, typename N>
inline constexpr bool kIsStrongNumber<StrongNumber<Tag, N>> = true;
template <typename T>
inline constexpr bool kIsNumber = std::is_integral_v<T> && !std::is_same_v<T, bool>;
template <typename T>
inline constexpr bool kIsRaw = std::is_same_v<T, JsonValue>;

// ---- Reading ------------------------------------------------------------------------------------

template <typename T>
Status read(const JsonValue& value, const Place& at, const JsonBounds& bounds, T& to);

template <JsonDescribed T>
Status read_members(const JsonObject& object, const Place& at, T& to, std::string_view also = {});

template <typename T>
Status read_number(const JsonValue& value, const Place& at, const JsonBounds& bounds, T& to) {
  if constexpr (std::is_signed_v<T>) {
    to = static_cast<T>(TRY(read_signed(value, at, bounds, std::numeric_limits<T>::min(),
                                        std::numeric_limits<T>::max())));
  } else {
    to = static_cast<T>(TRY(read_unsigned(value, at, bounds, std::numeric_limits<T>::max())));
  }
  return {};
}

template <JsonWorded E>
Status read_word(const JsonValue& value, const Place& at, E& to) {
  const std::string given = TRY(read_string(value, at, {.text = JsonText::kAny}));
  constexpr auto kKnown = json_words(JsonOf<E>{});
  std::array<std::string_view, kKnown.size()> words;
  for (size_t i = 0; i < kKnown.size(); ++i) {
    words[i] = kKnown[i].word;
    if (words[i] != given) continue;
    to = kKnown[i].value;
    return {};
  }
  return unknown_word(at, given, words);
}

template <typename T>
Status read_list(const JsonValue& value, const Place& at, const JsonBounds& bounds,
                 std::vector<T>& to) {
  static_assert(!std::is_same_v<T, bool>);
  const JsonArray* array = TRY(read_array(value, at, bounds));
  to.clear();
  to.reserve(array->size());
  for (const JsonValue& item : *array) {
    const Place place{.in = &at, .index = to.size()};
    TRY(read(item, place, bounds, to.emplace_back()));
  }
  return {};
}

template <typename T>
Status read_map(const JsonValue& value, const Place& at, const JsonBounds& bounds,
                std::map<std::string, T>& to) {
  const JsonObject* object = TRY(read_object(value, at));
  TRY(check_items(object->size(), at, bounds));
  to.clear();
  for (const auto& member : *object) {
    const std::string_view key = plain(member.key());
    const Place place{.in = &at, .name = key};
    TRY(check_string(key, place, bounds));
    TRY(read(member.value(), place, bounds, to[std::string(key)]));
  }
  return {};
}

template <typename T>
Status read(const JsonValue& value, const Place& at, const JsonBounds& bounds, T& to) {
  if constexpr (std::is_same_v<T, bool>) {
    to = TRY(read_bool(value, at));
  } else if constexpr (kIsNumber<T>) {
    return read_number(value, at, bounds, to);
  } else if constexpr (kIsStrongNumber<T>) {
    return read_number(value, at, bounds, to.value);
  } else if constexpr (std::is_same_v<T, double>) {
    to = TRY(read_double(value, at));
  } else if constexpr (kIsStrongBytes<T>) {
    return read_fixed(value, at, to.bytes);
  } else if constexpr (kIsFixedBytes<T>) {
    return read_fixed(value, at, to);
  } else if constexpr (std::is_same_v<T, std::string>) {
    to = TRY(read_string(value, at, bounds));
  } else if constexpr (std::is_same_v<T, Bytes>) {
    to = TRY(read_bytes(value, at, bounds));
  } else if constexpr (kIsOptional<T>) {
    if (!value.is_null()) return read(value, at, bounds, to.emplace());
    to.reset();
  } else if constexpr (kIsList<T>) {
    return read_list(value, at, bounds, to);
  } else if constexpr (kIsMap<T>) {
    return read_map(value, at, bounds, to);
  } else if constexpr (kIsRaw<T>) {
    to = value;
  } else if constexpr (std::is_same_v<T, JsonObject>) {
    to = *TRY(read_object(value, at));
  } else if constexpr (std::is_same_v<T, Error>) {
    to = error_from_json(*TRY(read_object(value, at)));
  } else if constexpr (JsonWorded<T>) {
    return read_word(value, at, to);
  } else {
    static_assert(JsonDescribed<T>, "no json_members() or json_words() is found for this type");
    return read_members(*TRY(read_object(value, at)), at, to);
  }
  return {};
}

template <typename Struct, typename T>
Status read_member(const JsonObject& object, const Place& at, const JsonMember<Struct, T>& member,
                   Struct& to) {
  const Place place{.in = &at, .name = member.name};
  const JsonValue* value = object.if_contains(boosted(member.name));
  if (value == nullptr) {
    if (kIsOptional<T> || member.has_default) return {};
    return fault(place, "is missing");
  }
  return read(*value, place, member.bounds, to.*member.pointer);
}

template <JsonDescribed T>
Status read_members(const JsonObject& object, const Place& at, T& to, std::string_view also) {
  const auto members = json_members(JsonOf<T>{});
  for (const auto& given : object) {
    const std::string_view name = plain(given.key());
    const bool known = std::apply(
        [name](const auto&... member) { return ((member.name == name) || ...); }, members);
    if (!known && (also.empty() || name != also)) {
      return unknown_member(Place{.in = &at, .name = name});
    }
  }
  Status read_all;
  std::apply(
      [&](const auto&... member) {
        (void)((read_all = read_member(object, at, member, to), read_all.ok()) && ...);
      },
      members);
  TRY(std::move(read_all));
  if constexpr (requires { json_check(to); }) {
    if (Status checked = json_check(std::as_const(to)); !checked.ok()) {
      const std::string path = at.path();
      return path.empty() ? std::move(checked) : std::move(checked).error().context(path);
    }
  }
  return {};
}

// ---- Writing ------------------------------------------------------------------------------------

template <JsonDescribed T>
void write_members(JsonObject& object, const T& from);

template <typename T>
JsonValue write(const T& from, const JsonBounds& bounds) {
  if constexpr (std::is_same_v<T, bool> || kIsNumber<T> || std::is_same_v<T, double> || kIsRaw<T> ||
                std::is_same_v<T, JsonObject>) {
    return JsonValue(from);
  } else if constexpr (kIsStrongNumber<T>) {
    return JsonValue(from.value);
  } else if constexpr (kIsStrongBytes<T>) {
    return write_bytes(from.bytes, JsonBytes::kHex);
  } else if constexpr (kIsFixedBytes<T>) {
    return write_bytes(from, JsonBytes::kHex);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return write_text(from);
  } else if constexpr (std::is_same_v<T, Bytes>) {
    return write_bytes(from, bounds.bytes);
  } else if constexpr (kIsOptional<T>) {
    return from ? write(*from, bounds) : JsonValue(nullptr);
  } else if constexpr (kIsList<T>) {
    JsonArray array;
    array.reserve(from.size());
    for (const auto& item : from) array.push_back(write(item, bounds));
    return array;
  } else if constexpr (kIsMap<T>) {
    JsonObject object;
    for (const auto& [key, item] : from) object[boosted(key)] = write(item, bounds);
    return object;
  } else if constexpr (std::is_same_v<T, Error>) {
    return error_to_json(from);
  } else if constexpr (JsonWorded<T>) {
    return write_text(json_word(from));
  } else {
    static_assert(JsonDescribed<T>, "no json_members() or json_words() is found for this type");
    JsonObject object;
    write_members(object, from);
    return object;
  }
}

template <JsonDescribed T>
void write_members(JsonObject& object, const T& from) {
  std::apply(
      [&]<typename... Member>(const Member&... member) {
        (
            [&] {
              JsonValue value = write(from.*member.pointer, member.bounds);
              using M = std::remove_cvref_t<decltype(from.*member.pointer)>;
              if (kIsOptional<M> && value.is_null()) return;
              object[boosted(member.name)] = std::move(value);
            }(),
            ...);
      },
      json_members(JsonOf<T>{}));
}

}  // namespace typed_json

template <JsonDescribed T>
JsonObject encode_json(const T& from) {
  JsonObject object;
  typed_json::write_members(object, from);
  return object;
}

template <JsonDescribed T>
std::string encode_json_text(const T& from) {
  return to_text(encode_json(from));
}

template <JsonDescribed T>
Result<T> decode_json(const JsonObject& object) {
  T to{};
  TRY(typed_json::read_members(object, typed_json::Place{}, to));
  return to;
}

// Also refuses a member that is named twice.
template <JsonDescribed T>
Result<T> decode_json(std::string_view text, JsonLimits limits = {}) {
  limits.duplicates = JsonDuplicates::kRefuse;
  return decode_json<T>(TRY(parse_json_object(text, std::move(limits))));
}

// ---- Several kinds of message in one place: each has a word, T::kOp, in the member `tag`. -------

template <typename T>
concept JsonOperation = JsonDescribed<T> && requires {
  { T::kOp } -> std::convertible_to<std::string_view>;
};

template <JsonOperation T>
JsonObject encode_operation(const T& from, std::string_view tag = "op") {
  JsonObject object;
  object[typed_json::boosted(tag)] = typed_json::write_text(T::kOp);
  typed_json::write_members(object, from);
  return object;
}

template <JsonOperation... T>
JsonObject encode_operation(const std::variant<T...>& from, std::string_view tag = "op") {
  return std::visit([tag](const auto& message) { return encode_operation(message, tag); }, from);
}

namespace typed_json {

template <typename Variant>
struct Operations;
template <JsonOperation... T>
struct Operations<std::variant<T...>> {
  using Variant = std::variant<T...>;
  static Result<Variant> decode(const JsonObject& object, std::string_view tag) {
    const Place at{.name = tag};
    const JsonValue* word = object.if_contains(boosted(tag));
    if (word == nullptr) return fault(at, "is missing");
    const std::string op = TRY(read_string(*word, at, {.text = JsonText::kAny}));
    std::optional<Result<Variant>> found;
    (void)((op == T::kOp && (found = one<T>(object, tag), true)) || ...);
    if (found) return *std::move(found);
    constexpr std::array<std::string_view, sizeof...(T)> kKnown{T::kOp...};
    return unknown_word(at, op, kKnown);
  }
  template <typename One>
  static Result<Variant> one(const JsonObject& object, std::string_view tag) {
    One to{};
    TRY(read_members(object, Place{}, to, tag));
    return Variant(std::move(to));
  }
};

}  // namespace typed_json

// `Variant` is a std::variant of JsonOperations.
template <typename Variant>
Result<Variant> decode_operation(const JsonObject& object, std::string_view tag = "op") {
  return typed_json::Operations<Variant>::decode(object, tag);
}

}  // namespace hf::sys

namespace hf {
constexpr auto json_members(sys::JsonOf<Position>) {
  return std::tuple(sys::json_member("incarnation", &Position::incarnation),
                    sys::json_member("sequence", &Position::sequence));
}
}  // namespace hf
