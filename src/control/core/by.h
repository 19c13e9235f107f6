// Who caused something, and from where: as events, jobs and the audit tell it.
#pragma once

#include <string>

namespace hf::control {

struct By {
  std::string actor = "holdfastd";  // "uid 0 (root)", "site north", "the guest"
  std::string origin;               // "api, pid 4711"; a site's address; empty: from within
};

}  // namespace hf::control
