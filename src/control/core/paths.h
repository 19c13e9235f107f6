// Where things are under the state directory.
#pragma once

#include <string>

#include "base/ids.h"

namespace hf::control {

struct Paths {
  std::string state;  // absolute

  std::string site_config() const { return state + "/site.json"; }
  std::string own() const { return state + "/daemon"; }
  std::string catalog() const { return own() + "/catalog.sqlite"; }
  std::string link() const { return state + "/run/link.sock"; }
  std::string vault_admin() const { return state + "/run/vault-admin.sock"; }
  std::string vault_keys() const { return state + "/run/vault-keys.sock"; }
  std::string journal(VmId vm) const { return state + "/vms/" + vm.hex() + "/journal"; }
  std::string vmgs(VmId vm) const { return journal(vm) + "/guest.vmgs"; }
  std::string run_dir(VmId vm) const { return state + "/run/vms/" + vm.hex(); }
  std::string run_file(VmId vm, std::string_view file) const {
    return state + "/" + run_relative(vm, file);
  }

  // Relative to the state directory, as the launcher takes them.
  static std::string run_relative(VmId vm, std::string_view file) {
    return "run/vms/" + vm.hex() + "/" + std::string(file);
  }
};

}  // namespace hf::control
