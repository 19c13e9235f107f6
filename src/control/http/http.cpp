#include "control/http/http.h"

#include <charconv>

#include "control/core/log.h"

namespace hf::control {

std::string_view to_string(Method method) {
  switch (method) {
    case Method::kGet:
      return "GET";
    case Method::kPost:
      return "POST";
    case Method::kPut:
      return "PUT";
    case Method::kDelete:
      return "DELETE";
  }
  return "?";
}

Result<sys::JsonObject> Request::json() const {
  if (body.empty()) return sys::JsonObject{};
  return sys::parse_json_object(body);
}

std::string Request::query_or(const std::string& name, std::string_view fallback) const {
  auto found = query.find(name);
  return found == query.end() ? std::string(fallback) : found->second;
}

namespace {

Result<uint64_t> parse_number(std::string_view text, std::string_view what) {
  uint64_t value = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size()) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + std::string(what) + "\" is not a number"};
  }
  return value;
}

}  // namespace

Result<uint64_t> Request::query_u64_or(const std::string& name, uint64_t fallback) const {
  auto found = query.find(name);
  return found == query.end() ? Result<uint64_t>(fallback) : parse_number(found->second, name);
}

Result<uint64_t> Request::capture_u64(size_t index) const {
  return parse_number(captures.at(index), captures.at(index));
}

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 400;
    case ErrorCode::kUnsupported:
      return 400;
    case ErrorCode::kPermission:
      return 403;
    case ErrorCode::kWrongKey:
      return 403;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kExists:
      return 409;
    case ErrorCode::kConflict:
      return 409;
    case ErrorCode::kLimit:
      return 429;
    case ErrorCode::kUnavailable:
      return 503;
    case ErrorCode::kTimeout:
      return 504;
    case ErrorCode::kNoSpace:
      return 507;
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      return 500;
  }
  return 500;
}

Response error_response(const Error& error) {
  // The command line then says that the log may have more.
  if (error.mend.empty()) log_warning("answered: " + error.describe());
  return Response::json(sys::JsonObject{{"error", sys::error_to_json(error)}},
                        http_status(error.code));
}

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    int high = text.size() - i > 2 ? hex_digit(text[i + 1]) : -1;
    int low = text.size() - i > 2 ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "bad percent-encoding in the address"};
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

Status parse_target(std::string_view target, Request& into) {
  size_t mark = target.find('?');
  into.path = TRY(percent_decode(target.substr(0, mark)));
  if (mark == std::string_view::npos) return {};
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    size_t end = rest.find('&');
    std::string_view pair = rest.substr(0, end);
    size_t equals = pair.find('=');
    std::string name = TRY(percent_decode(pair.substr(0, equals)));
    std::string value = equals == std::string_view::npos
                            ? std::string()
                            : TRY(percent_decode(pair.substr(equals + 1)));
    into.query[std::move(name)] = std::move(value);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return {};
}

}  // namespace hf::control
