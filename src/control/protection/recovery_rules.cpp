#include "control/protection/recovery_rules.h"

#include "control/core/log.h"
#include "control/vm/reconciler.h"

namespace hf::control {
namespace {

recovery::Role role_of(VmRole role) {
  switch (role) {
    case VmRole::kActive:
      return recovery::Role::kPrimary;
    case VmRole::kStandby:
      return recovery::Role::kReplica;
    case VmRole::kCreating:  // nobody's to run
    case VmRole::kSuperseded:
      return recovery::Role::kSuperseded;
  }
  return recovery::Role::kSuperseded;
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

bool may_ask(const VmRow& row, const Result<ProtectionRow>& protection, const SiteId& site) {
  return is_counterpart(protection, site) || row.taken_from == site;
}

Status is_made(const VmRow& row) {
  if (row.role != VmRole::kCreating) return {};
  return Error{
      .code = ErrorCode::kConflict,
      .cause = "the creation of VM \"" + row.name + "\" was cut off: its disks are not whole",
      .effect = "it does not run",
      .mend = "holdfast vm delete " + row.name + ", then create it again"};
}

bool may_vouch(const VmRow& row, const Result<ProtectionRow>& protection,
               const std::optional<SiteId>& enrolled_at, const SiteId& site) {
  return may_ask(row, protection, site) || enrolled_at == site;
}

Status still_ours(const VmRow& started, const VmRow& now) {
  TRY(is_made(now));
  if (now.role == VmRole::kActive && now.epoch == started.epoch) return {};
  const std::string epoch = std::to_string(now.epoch.value);
  return Error{.code = ErrorCode::kConflict,
               .cause = now.role == VmRole::kStandby
                            ? "the VM is the other site's to run; this one holds its replica"
                            : "the VM was taken over at the other site under epoch " + epoch +
                                  (now.note.empty() ? "" : ": " + now.note),
               .effect = "it does not run here",
               .mend = "use the VM at the site that has it: holdfast " +
                       std::string(now.role == VmRole::kStandby ? "protection" : "vm") + " show " +
                       now.name + " names it"};
}

}  // namespace hf::control
