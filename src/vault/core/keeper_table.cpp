#include "vault/core/keeper_table.h"

#include <fmt/format.h>

namespace hf::vault {
namespace {

Error refused(ErrorCode code, std::string cause) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = "the keepers known to the vault stay as they were",
               .mend = "holdfast site restart, under which VMs run on"};
}

}  // namespace

Status KeeperTable::replace(const KeeperBindings& bindings) {
  if (bindings.generation <= generation_) {
    return refused(ErrorCode::kConflict,
                   fmt::format("list {} of the site's keepers came after list {}",
                               bindings.generation, generation_));
  }
  std::map<VmId, uint32_t> bound;
  std::set<uint32_t> uids;
  std::set<VmId> guests;
  std::set<VmId> named;
  for (const KeeperBinding& keeper : bindings.keepers) {
    if (keeper.vm.is_zero()) return refused(ErrorCode::kInvalidArgument, "a keeper of no VM");
    if (!named.insert(keeper.vm).second) {
      return refused(ErrorCode::kInvalidArgument,
                     fmt::format("VM {} with two keepers", keeper.vm.hex()));
    }
    if (keeper.guest) guests.insert(keeper.vm);
    if (!keeper.keeper) continue;
    if (!may_be_keeper(keeper.uid)) {
      return refused(ErrorCode::kPermission,
                     fmt::format("user {} is not one that keepers run as", keeper.uid));
    }
    bound.emplace(keeper.vm, keeper.uid);
    if (!uids.insert(keeper.uid).second && reserved_) {
      return refused(ErrorCode::kConflict,
                     fmt::format("user {} as the keeper of two VMs, one of them {}", keeper.uid,
                                 keeper.vm.hex()));
    }
  }
  generation_ = bindings.generation;
  bound_ = std::move(bound);
  uids_ = std::move(uids);
  guests_ = std::move(guests);
  return {};
}

std::optional<uint32_t> KeeperTable::uid_of(const VmId& vm) const {
  const auto found = bound_.find(vm);
  return found == bound_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace hf::vault
