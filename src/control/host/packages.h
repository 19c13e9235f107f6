// Versions of Debian packages that a VM's behaviour depends on, as dpkg recorded them.
#pragma once

#include <string>
#include <vector>

#include "sys/json.h"

namespace hf::control {

// {"qemu-system-x86":"1:7.2+dfsg-…"}; null for one that is not installed.
sys::JsonObject package_versions(const std::vector<std::string>& names,
                                 const std::string& status_file = "/var/lib/dpkg/status");

}  // namespace hf::control
