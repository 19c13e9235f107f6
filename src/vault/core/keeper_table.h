// Which user is which VM's keeper, and which VMs have a guest. The launcher says so, with all of
// them in one list; it is kept in memory only, and said again when the vault begins anew.
//
// Rules: a list that is older than the one in force is refused; so is, whole, one with a user that
// may not be a keeper, with a VM twice, or (where users are apart) with one user for two VMs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "base/result.h"
#include "vault/protocol/types.h"

namespace hf::vault {

struct UidRange {
  uint32_t first = 0;
  uint32_t last = 0;
  bool holds(uint32_t uid) const { return first <= uid && uid <= last; }
};

class KeeperTable {
 public:
  // `reserved`: what the site keeps for keepers; nullopt: the site has one user, `own_uid`, for
  // everything.
  KeeperTable(std::optional<UidRange> reserved, uint32_t own_uid)
      : reserved_(reserved), own_uid_(own_uid) {}

  // kConflict: an older list, or a user for two VMs. kInvalidArgument: no VM, or one twice.
  // kPermission: a user that no keeper runs as. The list in force stays then.
  Status replace(const KeeperBindings& bindings);

  std::optional<uint32_t> uid_of(const VmId& vm) const;
  uint64_t generation() const { return generation_; }  // 0: none was taken yet
  bool is_keeper(uint32_t uid) const { return uids_.contains(uid); }
  const std::map<VmId, uint32_t>& all() const { return bound_; }
  const std::set<VmId>& guests() const { return guests_; }
  bool guest_runs(const VmId& vm) const { return guests_.contains(vm); }
  // Now or one day.
  bool may_be_keeper(uint32_t uid) const {
    return reserved_ ? reserved_->holds(uid) : uid == own_uid_;
  }

 private:
  std::optional<UidRange> reserved_;
  uint32_t own_uid_;
  uint64_t generation_ = 0;
  std::map<VmId, uint32_t> bound_;
  std::set<uint32_t> uids_;
  std::set<VmId> guests_;
};

}  // namespace hf::vault
