// Where things are under the state directory.
#pragma once

#include <string>

#include "base/ids.h"

namespace hf::daemon {

struct Paths {
  std::string state;  // absolute

  std::string site_config() const { return state + "/site.json"; }
  std::string own() const { return state + "/daemon"; }
  std::string catalog() const { return own() + "/catalog.sqlite"; }
  std::string tls_key() const { return own() + "/tls.key"; }
  std::string tls_certificate() const { return own() + "/tls.crt"; }
  std::string replicas() const { return own() + "/replicas"; }
  std::string replica(VmId vm) const { return state + "/" + replica_relative(vm); }
  std::string vault_admin() const { return state + "/run/vault-admin.sock"; }
  std::string vault_keys() const { return state + "/run/vault-keys.sock"; }
  std::string journal(VmId vm) const { return state + "/vms/" + vm.hex() + "/journal"; }
  std::string vmgs(VmId vm) const { return journal(vm) + "/guest.vmgs"; }
  std::string run_file(VmId vm, std::string_view file) const {
    return state + "/" + run_relative(vm, file);
  }

  // Relative to the state directory, as the launcher takes them.
  static std::string replica_relative(VmId vm) { return "daemon/replicas/" + vm.hex(); }
  static std::string run_relative(VmId vm, std::string_view file) {
    return "run/vms/" + vm.hex() + "/" + std::string(file);
  }
};

}  // namespace hf::daemon
