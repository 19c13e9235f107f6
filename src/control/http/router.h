// The table of routes: which request goes to which function, and who may ask.
#pragma once

#include <functional>
#include <vector>

#include "control/http/http.h"

namespace hf::control {

using Handler = std::function<Result<Response>(const Request&)>;

struct Route {
  Method method;
  std::string_view pattern;  // "/v1/vms/{vm}/start"; {…} stands for one segment
  Role role;                 // the least that may ask
  Handler handler;
};

class Router {
 public:
  explicit Router(std::vector<Route> routes) : routes_(std::move(routes)) {}
  // Never fails: what goes wrong becomes an error response. Any thread.
  Response handle(Request request) const;
  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;
};

}  // namespace hf::control
