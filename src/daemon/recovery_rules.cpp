#include "daemon/recovery_rules.h"

namespace hf::daemon {
namespace {

recovery::Role role_of(VmRole role) {
  switch (role) {
    case VmRole::kActive:
      return recovery::Role::kPrimary;
    case VmRole::kStandby:
      return recovery::Role::kReplica;
    case VmRole::kSuperseded:
      return recovery::Role::kSuperseded;
  }
  return recovery::Role::kSuperseded;
}

VmRole role_of(recovery::Role role) {
  switch (role) {
    case recovery::Role::kPrimary:
      return VmRole::kActive;
    case recovery::Role::kReplica:
      return VmRole::kStandby;
    case recovery::Role::kSuperseded:
      return VmRole::kSuperseded;
  }
  return VmRole::kSuperseded;
}

}  // namespace

recovery::RecoveryState recovery_state(const VmRow& row, bool has_peer) {
  return {.vm = row.id,
          .epoch = row.epoch,
          .role = role_of(row.role),
          .incarnation = {},
          .has_peer = has_peer};
}

bool is_counterpart(const Result<ProtectionRow>& protection, const SiteId& site) {
  return protection.ok() && protection->peer == site;
}

Status still_ours(const VmRow& started, const VmRow& now) {
  if (now.role == VmRole::kActive && now.epoch == started.epoch) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM was taken over at the other site under epoch " +
                        std::to_string(now.epoch.value) + " while it was started here",
               .effect = "it was ended here again",
               .mend = "use the VM at the other site"};
}

Status store_recovery_state(Services& services, const recovery::RecoveryState& state,
                            std::string_view note) {
  return services.catalog->set_role(state.vm, role_of(state.role), state.epoch, note);
}

}  // namespace hf::daemon
