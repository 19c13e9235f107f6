// The table of routes: which request goes to which function, and who may ask.
#pragma once

#include <functional>
#include <vector>

#include "control/http/http.h"

namespace hf::control {

// Told of what was refused to somebody who wanted something done, or who has no role for it. Any
// thread.
using OnRefused = std::function<void(const Request&, const Error&)>;
using Handler = std::function<Result<Response>(const Request&)>;

struct Route {
  Method method;
  std::string_view pattern;  // "/v1/vms/{vm}/start"; {…} stands for one segment
  Role role;                 // the least that may ask
  Handler handler;
};

class Router {
 public:
  explicit Router(std::vector<Route> routes, OnRefused on_refused = nullptr)
      : routes_(std::move(routes)), on_refused_(std::move(on_refused)) {}
  // Never fails: what goes wrong becomes an error response. Any thread.
  Response handle(Request request) const;
  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;
  OnRefused on_refused_;
};

}  // namespace hf::control
