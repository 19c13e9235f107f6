#include "control/protection/replica_rules.h"

#include "base/assert.h"
#include "control/protection/recovery_rules.h"

namespace hf::control {
namespace {

bool is_replica_of(const VmRow& row, const Result<ProtectionRow>& protection, const SiteId& site) {
  return row.role == VmRole::kStandby && is_counterpart(protection, site) &&
         protection->direction == Direction::kIn;
}

// What the VM is here, to a site that may know.
Error is_here_otherwise(const VmRow& row, const std::string& here, std::string effect) {
  Error error{.code = ErrorCode::kConflict, .effect = std::move(effect)};
  const std::string vm = "VM \"" + row.name + "\"";
  switch (row.role) {
    case VmRole::kActive:
      error.cause = "site " + here + " has taken " + vm + " over and runs it under epoch " +
                    std::to_string(row.epoch.value);
      error.mend = "use the VM at site " + here + "; there: holdfast vm show " + row.name;
      break;
    case VmRole::kSuperseded:
      error.cause = "site " + here + " has what is left of " + vm +
                    " from before it was taken over under epoch " + std::to_string(row.epoch.value);
      error.mend = "at site " + here + ": holdfast vm delete " + row.name;
      break;
    case VmRole::kCreating:
      error.cause = "site " + here + " is creating " + vm;
      error.mend = "at site " + here + ": holdfast job list";
      break;
    case VmRole::kStandby:
      error.cause = "site " + here + " holds the replica of " + vm + " for another site";
      error.mend = "at site " + here + ": holdfast protection show " + row.name;
      break;
  }
  return error;
}

}  // namespace

Error at_work(const std::string& name, const std::string& here, std::string effect) {
  return {.code = ErrorCode::kConflict,
          .cause = "site " + here + " works on the replica of VM \"" + name +
                   "\" just now: a failover, it may be",
          .effect = std::move(effect),
          .mend = "at site " + here + ": holdfast job list; then try again"};
}

Result<OfferIs> judge_offer(const Asked& offer, const Result<VmRow>& row,
                            const Result<ProtectionRow>& protection) {
  constexpr std::string_view kNotTaken = "the VM is not protected by this offer";
  if (!row.ok()) {
    if (row.error().code == ErrorCode::kNotFound) return OfferIs::kNew;
    return Error(row.error());
  }
  if (!is_replica_of(*row, protection, offer.from)) {
    if (may_ask(*row, protection, offer.from))
      return is_here_otherwise(*row, offer.here, std::string(kNotTaken));
    // Of a VM that is not the asker's business no more is said.
    return Error{.code = ErrorCode::kConflict,
                 .cause = "site " + offer.here + " has a VM of that id that is not site " +
                          offer.from_name + "'s",
                 .effect = std::string(kNotTaken),
                 .mend = "at site " + offer.here + ": holdfast vm show " + offer.vm.hex()};
  }
  if (protection->journal_public_key != offer.journal_public_key) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "site " + offer.here + " holds a replica of VM \"" + row->name +
                          "\" under another journal key",
                 .effect = "the replica stays as it is",
                 .mend = "at site " + offer.from_name + ": holdfast protection disable " +
                         offer.name + ", then enable it again"};
  }
  if (offer.epoch < row->epoch) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "site " + offer.here + " knows VM \"" + row->name + "\" under epoch " +
                          std::to_string(row->epoch.value) + ", the offer is of epoch " +
                          std::to_string(offer.epoch.value),
                 .effect = std::string(kNotTaken),
                 .mend = "holdfast vm show " + offer.name + " at both sites"};
  }
  return offer.epoch == row->epoch ? OfferIs::kSame : OfferIs::kSameLater;
}

Result<WithdrawalIs> judge_withdrawal(VmId vm, const PeerRow& from, const std::string& here,
                                      const Result<VmRow>& row,
                                      const Result<ProtectionRow>& protection) {
  if (!row.ok() && row.error().code != ErrorCode::kNotFound) return Error(row.error());
  // The same answer whether it is another site's VM or none: there is no replica of the asker's.
  if (!row.ok() || !may_ask(*row, protection, from.site)) return WithdrawalIs::kDone;
  HF_ASSERT(row->id == vm);
  if (is_replica_of(*row, protection, from.site)) return WithdrawalIs::kDue;
  return is_here_otherwise(*row, here, "nothing was removed");
}

}  // namespace hf::control
