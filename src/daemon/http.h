// Requests and responses as handlers see them. Only http_server.cpp knows Beast.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/json.h"

namespace hf::daemon {

enum class Method { kGet, kPost, kPut, kDelete };
std::string_view to_string(Method method);

// Each role may do what those before it may.
enum class Role { kReader, kOperator, kContributor, kOwner };

struct Request {
  Method method = Method::kGet;
  std::string path;                          // without the query, percent-decoded
  std::map<std::string, std::string> query;  // percent-decoded
  std::string body;
  Role role = Role::kReader;
  std::string actor;                  // who asks, for the audit: "uid 0"
  std::vector<std::string> captures;  // what stood for the {…} of the route, in order

  // The body as a JSON object; an empty body is an empty object.
  Result<sys::JsonObject> json() const;
  std::string query_or(const std::string& name, std::string_view fallback) const;
  Result<uint64_t> query_u64_or(const std::string& name, uint64_t fallback) const;
};

// A body of unknown length, sent in chunks.
class BodyStream {
 public:
  virtual ~BodyStream() = default;
  // Blocks for a second at most. Empty: nothing yet. nullopt: the end.
  virtual std::optional<std::string> next() = 0;
};

struct Response {
  int status = 200;
  sys::JsonValue body;
  std::unique_ptr<BodyStream> stream;  // instead of `body`

  static Response json(sys::JsonValue body, int status = 200) {
    return Response{.status = status, .body = std::move(body), .stream = nullptr};
  }
};

// {"error":{"code","cause","effect","mend"}} under the fitting HTTP status.
Response error_response(const Error& error);
int http_status(ErrorCode code);

// The target of a request line, taken apart. kInvalidArgument: bad percent-encoding.
Status parse_target(std::string_view target, Request& into);

}  // namespace hf::daemon
