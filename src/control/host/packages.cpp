#include "control/host/packages.h"

#include <algorithm>
#include <fstream>

namespace hf::control {

sys::JsonObject package_versions(const std::vector<std::string>& names,
                                 const std::string& status_file) {
  sys::JsonObject versions;
  for (const std::string& name : names) versions[name] = nullptr;
  std::ifstream file(status_file);
  std::string wanted;
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kPackage = "Package: ";
    constexpr std::string_view kVersion = "Version: ";
    if (line.starts_with(kPackage)) {
      std::string name = line.substr(kPackage.size());
      wanted = std::ranges::find(names, name) != names.end() ? name : "";
    } else if (!wanted.empty() && line.starts_with(kVersion)) {
      versions[wanted] = line.substr(kVersion.size());
    }
  }
  return versions;
}

}  // namespace hf::control
