// The vault learns from here which user is which VM's keeper (vault_binding.h).
#include <unistd.h>

#include <map>

#include "launcher/supervisor.h"

namespace hf::launcher {

namespace {

bool has_key_or_guest(const Unit& unit) {
  return unit.role == Role::kKeeper || unit.role == Role::kQemu;
}

}  // namespace

uint32_t Supervisor::user_of(const Unit& unit) const {
  return unit.spec.change_user ? unit.spec.user : tree_.users().self;
}

// Of all keepers and guests that run, or are about to run again; and of `starting`, if there is
// one.
std::vector<BoundKeeper> Supervisor::bound_keepers(const Unit* starting) const {
  std::map<VmId, BoundKeeper> bound;
  const auto add = [&](const Unit& unit) {
    BoundKeeper& one = bound[*unit.vm];
    one.vm = *unit.vm;
    if (unit.role == Role::kQemu) {
      one.guest = true;
    } else if (!one.keeper) {
      one.keeper = true;
      one.uid = user_of(unit);
    }
  };
  if (starting != nullptr) add(*starting);
  for (const auto& [name, unit] : units_) {
    if (has_key_or_guest(unit) && !unit.over()) add(unit);
  }
  std::vector<BoundKeeper> keepers;
  keepers.reserve(bound.size());
  for (const auto& [vm, one] : bound) keepers.push_back(one);
  return keepers;
}

// A vault that does not run just now finds the list when it starts.
bool Supervisor::vault_runs() const {
  const auto vault = units_.find("vault");
  return vault != units_.end() && vault->second.running();
}

Status Supervisor::bind_keeper(const Unit& unit) {
  if (!has_key_or_guest(unit) || !vault_runs()) return {};
  return vault_binding_.tell(bound_keepers(&unit));
}

void Supervisor::unbind_keeper(const Unit& unit) {
  if (!has_key_or_guest(unit) || stage_ != Stage::kRunning || !vault_runs()) return;
  vault_binding_.tell_of_an_end(bound_keepers(nullptr));
}

Status Supervisor::start_vault() {
  const Users& users = tree_.users();
  auto at = units_.find("vault");
  if (at == units_.end()) {
    Unit unit = make_core_unit("vault", Role::kVault);
    unit.spec.program = options_.programs.vault;
    unit.spec.argv = {"holdfast-vault",
                      "--dir",
                      tree_.path() + "/vault",
                      "--admin-uid",
                      std::to_string(users.daemon()),
                      "--launcher-uid",
                      std::to_string(::geteuid()),
                      "--operator-uid",
                      std::to_string(::geteuid())};
    if (users.uid_base != 0) {
      unit.spec.argv.insert(unit.spec.argv.end(),
                            {"--keeper-uids", std::to_string(users.keeper(0)) + "-" +
                                                  std::to_string(users.keeper(kVmNumberMax))});
    }
    if (options_.operators && users.uid_base != 0) {
      unit.spec.argv.insert(unit.spec.argv.end(),
                            {"--operators-gid", std::to_string(*options_.operators)});
    }
    if (!tree_.site().vault_secret_file.empty()) {
      unit.spec.argv.insert(unit.spec.argv.end(),
                            {"--secret-file", tree_.site().vault_secret_file});
    }
    unit.spec.empty_network = empty_network_;
    // Keepers of every VM connect to vault-keys: the vault looks at who asks.
    unit.fds.push_back(TRY(tree_.listen_core("vault-admin.sock", users.daemon(), 0600)));
    unit.fds.push_back(TRY(tree_.listen_core("vault-keys.sock", users.vault(), 0666)));
    unit.fds.push_back(TRY(tree_.listen_core("vault-launcher.sock", ::geteuid(), 0600)));
    // Root and the operators' group, or the user of a site that has one: never the daemon's, where
    // users are apart.
    unit.fds.push_back(
        TRY(tree_.listen_core("vault-operators.sock", ::geteuid(), options_.operators ? 0660 : 0600,
                              SOCK_STREAM, options_.operators)));
    unit.fds.emplace_back();
    at = units_.emplace("vault", std::move(unit)).first;
  }
  Unit& unit = at->second;
  unit.fds[4] = TRY(vault_binding_.for_start(bound_keepers(nullptr)));
  unit.spec.fds = {{.name = "vault-admin", .fd = unit.fds[0].get()},
                   {.name = "vault-keys", .fd = unit.fds[1].get()},
                   {.name = "vault-launcher", .fd = unit.fds[2].get()},
                   {.name = "vault-operators", .fd = unit.fds[3].get()},
                   {.name = "keepers", .fd = unit.fds[4].get()}};
  return launch(unit);
}

}  // namespace hf::launcher
