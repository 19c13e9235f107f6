// Requests and responses as handlers see them. Only http_server.cpp knows Beast.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/core/by.h"
#include "control/core/notice.h"
#include "sys/json.h"

namespace hf::control {

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
  std::string actor;                  // who asks, as the audit has it: "uid 0 (root)"
  std::string origin;                 // from where: "api, pid 4711"
  std::vector<std::string> captures;  // what stood for the {…} of the route, in order

  By by() const { return {.actor = actor, .origin = origin}; }
  // The body as a JSON object; an empty body is an empty object.
  Result<sys::JsonObject> json() const;
  std::string query_or(const std::string& name, std::string_view fallback) const;
  Result<uint64_t> query_u64_or(const std::string& name, uint64_t fallback) const;
  Result<uint64_t> capture_u64(size_t index) const;
};

// A body of unknown length, sent in chunks.
class BodyStream {
 public:
  virtual ~BodyStream() = default;
  // Does not block. Empty: nothing yet, `changed()` tells when there is more. nullopt: the end.
  virtual std::optional<std::string> next() = 0;
  // Read its version before next(). Null: next() is never empty.
  virtual Notice* changed() { return nullptr; }
};

struct Response;

// There is no answer yet. Until there is one the request holds a connection and no thread.
struct Wait {
  std::shared_ptr<Notice> changed;
  uint64_t seen = 0;  // of `changed`, read before there was nothing to say
  std::chrono::milliseconds limit{};
  // Asked on a handler's thread when there is news, or at the limit. May wait again.
  std::function<Result<Response>()> again;
};

struct Response {
  int status = 200;
  sys::JsonValue body;
  std::unique_ptr<BodyStream> stream;  // instead of `body`
  std::optional<Wait> wait;            // instead of both

  static Response json(sys::JsonValue body, int status = 200) {
    return Response{
        .status = status, .body = std::move(body), .stream = nullptr, .wait = std::nullopt};
  }
  static Response later(Wait wait) {
    Response response;
    response.wait = std::move(wait);
    return response;
  }
};

// {"error":{"code","cause","effect","mend"}} under the fitting HTTP status.
Response error_response(const Error& error);
int http_status(ErrorCode code);

// The target of a request line, taken apart. kInvalidArgument: bad percent-encoding.
Status parse_target(std::string_view target, Request& into);

}  // namespace hf::control
