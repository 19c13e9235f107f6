#include "sys/json.h"

#include <array>
#include <boost/json/basic_parser_impl.hpp>
#include <string>
#include <utility>

#include "base/text.h"

namespace hf::sys {
namespace {

namespace bj = boost::json;

constexpr std::array kAllCodes = {
    ErrorCode::kInvalidArgument, ErrorCode::kNotFound,    ErrorCode::kExists,
    ErrorCode::kConflict,        ErrorCode::kPermission,  ErrorCode::kCorrupt,
    ErrorCode::kWrongKey,        ErrorCode::kNoSpace,     ErrorCode::kIo,
    ErrorCode::kTimeout,         ErrorCode::kUnavailable, ErrorCode::kUnsupported,
    ErrorCode::kLimit,           ErrorCode::kInternal,
};

Error member_error(std::string_view name, std::string_view problem) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "member \"" + std::string(name) + "\" " + std::string(problem)};
}

// Null counts as absent.
const JsonValue* find(const JsonObject& object, std::string_view name) {
  const JsonValue* value = object.if_contains(bj::string_view(name.data(), name.size()));
  return value == nullptr || value->is_null() ? nullptr : value;
}

Result<const JsonValue*> require(const JsonObject& object, std::string_view name) {
  const JsonValue* value = find(object, name);
  if (value == nullptr) return member_error(name, "is missing");
  return value;
}

std::string_view view(const bj::string& text) { return {text.data(), text.size()}; }
std::string plain(const bj::string& text) { return std::string(view(text)); }

std::string shown_or_empty(const JsonObject& object, std::string_view name) {
  const JsonValue* value = find(object, name);
  if (value == nullptr || !value->is_string()) return {};
  return clean_text(view(value->get_string()), kErrorTextMax);
}
std::string string_or_empty(const JsonObject& object, std::string_view name) {
  const JsonValue* value = find(object, name);
  return value != nullptr && value->is_string() ? plain(value->get_string()) : std::string();
}

// Builds the value as boost::json::parser does, and counts the members that the text names.
class CountingHandler {
 public:
  static constexpr size_t max_object_size = bj::object::max_size();
  static constexpr size_t max_array_size = bj::array::max_size();
  static constexpr size_t max_key_size = bj::string::max_size();
  static constexpr size_t max_string_size = bj::string::max_size();
  using Code = boost::system::error_code;
  using Text = bj::string_view;

  explicit CountingHandler(const bj::storage_ptr& storage) { stack_.reset(storage); }
  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_object_begin(Code&) { return true; }
  bool on_object_end(size_t members, Code&) {
    members_ += members;
    stack_.push_object(members);
    return true;
  }
  bool on_array_begin(Code&) { return true; }
  bool on_array_end(size_t items, Code&) {
    stack_.push_array(items);
    return true;
  }
  bool on_key_part(Text part, size_t, Code&) {
    stack_.push_chars(part);
    return true;
  }
  bool on_key(Text rest, size_t, Code&) {
    stack_.push_key(rest);
    return true;
  }
  bool on_string_part(Text part, size_t, Code&) {
    stack_.push_chars(part);
    return true;
  }
  bool on_string(Text rest, size_t, Code&) {
    stack_.push_string(rest);
    return true;
  }
  bool on_number_part(Text, Code&) { return true; }
  bool on_int64(int64_t value, Text, Code&) {
    stack_.push_int64(value);
    return true;
  }
  bool on_uint64(uint64_t value, Text, Code&) {
    stack_.push_uint64(value);
    return true;
  }
  bool on_double(double value, Text, Code&) {
    stack_.push_double(value);
    return true;
  }
  bool on_bool(bool value, Code&) {
    stack_.push_bool(value);
    return true;
  }
  bool on_null(Code&) {
    stack_.push_null();
    return true;
  }
  bool on_comment_part(Text, Code&) { return true; }
  bool on_comment(Text, Code&) { return true; }

  JsonValue release() { return stack_.release(); }
  size_t members() const { return members_; }

 private:
  bj::value_stack stack_;
  size_t members_ = 0;
};

// Of all objects in it; the depth is bounded by the parser.
size_t count_members(const JsonValue& value) {
  size_t count = 0;
  if (value.is_object()) {
    count = value.get_object().size();
    for (const auto& member : value.get_object()) count += count_members(member.value());
  } else if (value.is_array()) {
    for (const JsonValue& item : value.get_array()) count += count_members(item);
  }
  return count;
}

Error not_json(const boost::system::error_code& error) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = "not JSON: " + error.message()};
}

Result<JsonValue> parse_unique(std::string_view text, const bj::storage_ptr& storage,
                               const bj::parse_options& options) {
  bj::basic_parser<CountingHandler> parser(options, storage);
  boost::system::error_code error;
  const size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (!error && used < text.size()) error = bj::error::extra_data;
  if (error) return not_json(error);
  JsonValue value = parser.handler().release();
  if (count_members(value) != parser.handler().members()) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "JSON that names a member twice"};
  }
  return value;
}

}  // namespace

Result<JsonValue> parse_json(std::string_view text, JsonLimits limits) {
  if (text.size() > limits.bytes_max) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "JSON of " + std::to_string(text.size()) + " bytes, more than the " +
                          std::to_string(limits.bytes_max) + " allowed"};
  }
  bj::parse_options options;
  options.max_depth = limits.depth_max;
  if (limits.duplicates == JsonDuplicates::kRefuse) {
    return parse_unique(text, limits.storage, options);
  }
  boost::system::error_code error;
  JsonValue value =
      bj::parse(bj::string_view(text.data(), text.size()), error, limits.storage, options);
  if (error) return not_json(error);
  return value;
}

Result<JsonObject> parse_json_object(std::string_view text, JsonLimits limits) {
  JsonValue value = TRY(parse_json(text, limits));
  if (!value.is_object()) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "JSON, but not an object"};
  }
  return std::move(value.get_object());
}

std::string to_text(const JsonObject& object) { return bj::serialize(object); }
std::string to_text(const JsonValue& value) { return bj::serialize(value); }

Result<std::string_view> get_text(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (!value->is_string()) return member_error(name, "is not a string");
  return view(value->get_string());
}

Result<std::string> get_string(const JsonObject& object, std::string_view name) {
  return std::string(TRY(get_text(object, name)));
}

Result<uint64_t> get_u64(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (value->is_uint64()) return value->get_uint64();
  if (value->is_int64() && value->get_int64() >= 0) {
    return static_cast<uint64_t>(value->get_int64());
  }
  return member_error(name, "is not a whole number from 0");
}

Result<int64_t> get_i64(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (!value->is_int64()) return member_error(name, "is not a whole number");
  return value->get_int64();
}

Result<double> get_double(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (value->is_double()) return value->get_double();
  if (value->is_int64()) return static_cast<double>(value->get_int64());
  if (value->is_uint64()) return static_cast<double>(value->get_uint64());
  return member_error(name, "is not a number");
}

Result<bool> get_bool(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (!value->is_bool()) return member_error(name, "is not true or false");
  return value->get_bool();
}

Result<const JsonObject*> get_object(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (!value->is_object()) return member_error(name, "is not an object");
  return &value->get_object();
}

Result<const JsonArray*> get_array(const JsonObject& object, std::string_view name) {
  const JsonValue* value = TRY(require(object, name));
  if (!value->is_array()) return member_error(name, "is not an array");
  return &value->get_array();
}

Result<std::vector<std::string>> get_strings(const JsonObject& object, std::string_view name) {
  const JsonArray* array = TRY(get_array(object, name));
  std::vector<std::string> texts;
  for (const JsonValue& value : *array) {
    if (!value.is_string()) return member_error(name, "holds something else than strings");
    texts.push_back(plain(value.get_string()));
  }
  return texts;
}

Result<std::string> get_string_or(const JsonObject& object, std::string_view name,
                                  std::string_view fallback) {
  if (find(object, name) == nullptr) return std::string(fallback);
  return get_string(object, name);
}

Result<uint64_t> get_u64_or(const JsonObject& object, std::string_view name, uint64_t fallback) {
  if (find(object, name) == nullptr) return fallback;
  return get_u64(object, name);
}

Result<bool> get_bool_or(const JsonObject& object, std::string_view name, bool fallback) {
  if (find(object, name) == nullptr) return fallback;
  return get_bool(object, name);
}

Result<std::vector<std::string>> get_strings_or_empty(const JsonObject& object,
                                                      std::string_view name) {
  if (find(object, name) == nullptr) return std::vector<std::string>();
  return get_strings(object, name);
}

bool has_member(const JsonObject& object, std::string_view name) {
  return find(object, name) != nullptr;
}

JsonObject error_to_json(const Error& error) {
  std::string_view code = to_string(error.code);
  JsonObject object;
  object["code"] = bj::string_view(code.data(), code.size());
  object["cause"] = error.cause;
  object["effect"] = error.effect;
  object["mend"] = error.mend;
  return object;
}

Error error_from_json(const JsonObject& object) {
  Error error{.code = ErrorCode::kInternal,
              .cause = shown_or_empty(object, "cause"),
              .effect = shown_or_empty(object, "effect"),
              .mend = shown_or_empty(object, "mend")};
  std::string code = string_or_empty(object, "code");
  for (ErrorCode candidate : kAllCodes) {
    if (to_string(candidate) == code) error.code = candidate;
  }
  return error;
}

std::string start_failure_line(const Error& error) {
  JsonObject object;
  object["error"] = error_to_json(error);
  return to_text(object) + "\n";
}

std::optional<Error> find_start_failure(std::string_view stderr_tail) {
  while (!stderr_tail.empty()) {
    size_t end = stderr_tail.find_last_not_of("\r\n");
    if (end == std::string_view::npos) return std::nullopt;
    stderr_tail = stderr_tail.substr(0, end + 1);
    size_t start = stderr_tail.find_last_of('\n');
    std::string_view line =
        start == std::string_view::npos ? stderr_tail : stderr_tail.substr(start + 1);
    if (line.starts_with("{\"error\"")) {
      if (auto object = parse_json_object(line); object.ok()) {
        if (auto error = get_object(*object, "error"); error.ok()) {
          return error_from_json(**error);
        }
      }
    }
    if (start == std::string_view::npos) return std::nullopt;
    stderr_tail = stderr_tail.substr(0, start);
  }
  return std::nullopt;
}

}  // namespace hf::sys
