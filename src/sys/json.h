// JSON for control messages and small files: bounded parsing, typed reads, errors as JSON.
//
// Boost.JSON underneath (compiled once, boost_json.cpp). Nothing here throws. A message is always
// one object; a missing or mistyped member is an error that names the member. Unknown members are
// ignored, so that a newer peer may add some.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/result.h"

namespace hf::sys {

using JsonObject = boost::json::object;
using JsonArray = boost::json::array;
using JsonValue = boost::json::value;

// An object that names a member twice means one thing to one reader and another to the next: what
// is signed, or compared with what is, refuses it. Else the last one counts.
enum class JsonDuplicates { kLastCounts, kRefuse };

struct JsonLimits {
  size_t bytes_max = size_t{1} << 20;  // longer text is refused unread (kLimit)
  size_t depth_max = 16;
  JsonDuplicates duplicates = JsonDuplicates::kLastCounts;
  // Where the values' memory is from; a resource given here outlives them and every copy of them.
  boost::json::storage_ptr storage;
};

// kInvalidArgument if the text is not exactly one JSON object, with what the parser saw.
Result<JsonObject> parse_json_object(std::string_view text, JsonLimits limits = {});
// The same for any JSON value.
Result<JsonValue> parse_json(std::string_view text, JsonLimits limits = {});
std::string to_text(const JsonObject& object);
std::string to_text(const JsonValue& value);

// Required members: kInvalidArgument names the member that is missing or of another type.
Result<std::string> get_string(const JsonObject& object, std::string_view name);
// Without a copy: lives as long as `object`.
Result<std::string_view> get_text(const JsonObject& object, std::string_view name);
Result<uint64_t> get_u64(const JsonObject& object, std::string_view name);
Result<int64_t> get_i64(const JsonObject& object, std::string_view name);
Result<double> get_double(const JsonObject& object, std::string_view name);  // takes integers too
Result<bool> get_bool(const JsonObject& object, std::string_view name);
// The pointers live as long as `object`.
Result<const JsonObject*> get_object(const JsonObject& object, std::string_view name);
Result<const JsonArray*> get_array(const JsonObject& object, std::string_view name);
Result<std::vector<std::string>> get_strings(const JsonObject& object, std::string_view name);

// Optional members: the fallback if absent or null; still an error if of another type.
Result<std::string> get_string_or(const JsonObject& object, std::string_view name,
                                  std::string_view fallback);
Result<uint64_t> get_u64_or(const JsonObject& object, std::string_view name, uint64_t fallback);
Result<bool> get_bool_or(const JsonObject& object, std::string_view name, bool fallback);
Result<std::vector<std::string>> get_strings_or_empty(const JsonObject& object,
                                                      std::string_view name);
// False for an absent member and for null.
bool has_member(const JsonObject& object, std::string_view name);

// Error as {"code","cause","effect","mend"}. An unknown code reads as kInternal, so that a newer
// peer's error is still shown. Texts are cleaned and cut when read: wherever an error comes from,
// it ends on a terminal or in a log.
inline constexpr size_t kErrorTextMax = 4096;  // bytes of each
JsonObject error_to_json(const Error& error);
Error error_from_json(const JsonObject& object);

// What a process that fails to start prints as its last line on stderr: {"error":{…}}\n.
std::string start_failure_line(const Error& error);
// The error in the last such line of a captured stderr, if there is one.
std::optional<Error> find_start_failure(std::string_view stderr_tail);

}  // namespace hf::sys
