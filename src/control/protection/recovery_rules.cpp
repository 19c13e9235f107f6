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
                            : "the VM was taken over at the other site under epoch " + epoch,
               .effect = "it does not run here",
               .mend = "use the VM at the other site"};
}

Result<recovery::LearnOutcome> learn_epoch(Services& services, VmId vm, Epoch peer,
                                           std::string_view note) {
  constexpr int kTries = 5;  // another thread may have learned meanwhile, or taken the VM over
  for (int i = 0;; ++i) {
    const VmRow row = TRY(services.catalog->vm(vm));
    recovery::LearnOutcome learned = recovery::learn_peer_epoch(recovery_state(row, true), peer);
    if (learned.learned == recovery::Learned::kNothing) return learned;
    Status stored =
        services.catalog->change_role(row, role_of(learned.state.role), learned.state.epoch, note);
    if (!stored.ok() && stored.error().code == ErrorCode::kConflict && i < kTries) continue;
    TRY(std::move(stored));
    if (learned.learned == recovery::Learned::kSuperseded) {
      log_error("VM " + row.name + " is superseded: " + std::string(note));
      Status fenced = services.reconciler->fence(vm);
      if (!fenced.ok()) log_error(fenced.error().describe());
    }
    return learned;
  }
}

}  // namespace hf::control
