#include "control/http/router.h"

namespace hf::control {
namespace {

// The next segment of a path that starts with '/'; `rest` loses it.
std::string_view next_segment(std::string_view& rest) {
  rest.remove_prefix(1);
  size_t end = rest.find('/');
  std::string_view segment = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end);
  return segment;
}

bool matches(std::string_view pattern, std::string_view path, std::vector<std::string>& captures) {
  captures.clear();
  while (!pattern.empty() && !path.empty()) {
    if (path.front() != '/') return false;
    std::string_view want = next_segment(pattern);
    std::string_view have = next_segment(path);
    if (want.starts_with('{')) {
      if (have.empty()) return false;
      captures.emplace_back(have);
    } else if (want != have) {
      return false;
    }
  }
  return pattern.empty() && path.empty();
}

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kReader:
      return "Reader";
    case Role::kOperator:
      return "Operator";
    case Role::kContributor:
      return "Contributor";
    case Role::kOwner:
      return "Owner";
  }
  return "?";
}

}  // namespace

Response Router::handle(Request request) const {
  bool path_known = false;
  for (const Route& route : routes_) {
    if (!matches(route.pattern, request.path, request.captures)) continue;
    path_known = true;
    if (route.method != request.method) continue;
    if (request.role < route.role) {
      const Error error{.code = ErrorCode::kPermission,
                        .cause = "this needs the role " + std::string(role_name(route.role)),
                        .effect = "nothing was done",
                        .mend = "ask as a user with that role"};
      if (on_refused_) on_refused_(request, error);
      return error_response(error);
    }
    Result<Response> result = route.handler(request);
    if (!result.ok() && request.method != Method::kGet && on_refused_)
      on_refused_(request, result.error());
    return result.ok() ? std::move(result).value() : error_response(result.error());
  }
  if (path_known) {
    Response response = error_response(
        {.code = ErrorCode::kUnsupported,
         .cause = std::string(to_string(request.method)) + " is not possible on " + request.path,
         .effect = "nothing was done",
         .mend = "see api/openapi.yaml for what is"});
    response.status = 405;
    return response;
  }
  return error_response({.code = ErrorCode::kNotFound,
                         .cause = "there is nothing at " + request.path,
                         .effect = "nothing was done",
                         .mend = "see api/openapi.yaml for what there is"});
}

}  // namespace hf::control
