// What is planted, to show that it would be found.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "title/faults.h"

namespace hf::sim::life {

enum class Fault : uint8_t {
  kNone,
  kStatementNotDurable,  // effects come before the statement is on the disk
  kFenceBehindJob,       // who learns of another holder fences when its job has ended
  kStartAfterFence,      // what was queued when the fence fell starts all the same
  kKeyAgainstTitle,      // key and gate go to whoever asks
  kFreshnessApart,       // a statement that sets the position does not set freshness
  kVaultRestored,        // the vault's files are put back from a copy
  kEntitlementNotChecked,
  kNotAskedBeforeStart,
  kEmptyReplicaTaken,
  kPermissionRemembered,
  kHearsay,
  kHandOverUnasked,
  kAnswerUsedLate,
  kNumberInsteadOfAncestry,
  kNoReturn,
  kDroppedUnasked,
};
inline constexpr std::array<std::string_view, 17> kFaultNames{"none",
                                                              "statement-not-durable",
                                                              "fence-behind-job",
                                                              "start-after-fence",
                                                              "key-against-title",
                                                              "freshness-apart",
                                                              "vault-restored",
                                                              "entitlement-not-checked",
                                                              "not-asked-before-start",
                                                              "empty-replica-taken",
                                                              "permission-remembered",
                                                              "hearsay",
                                                              "hand-over-unasked",
                                                              "answer-used-late",
                                                              "number-instead-of-ancestry",
                                                              "no-return",
                                                              "dropped-unasked"};

inline std::string_view to_string(Fault fault) { return kFaultNames[static_cast<size_t>(fault)]; }
inline std::optional<Fault> parse_fault(std::string_view name) {
  for (size_t i = 0; i < kFaultNames.size(); ++i)
    if (kFaultNames[i] == name) return static_cast<Fault>(i);
  return std::nullopt;
}
inline title::Faults title_faults(Fault fault) {
  return {.number_instead_of_ancestry = fault == Fault::kNumberInsteadOfAncestry,
          .not_asked_before_start = fault == Fault::kNotAskedBeforeStart,
          .empty_replica_taken = fault == Fault::kEmptyReplicaTaken,
          .no_return = fault == Fault::kNoReturn,
          .permission_remembered = fault == Fault::kPermissionRemembered,
          .dropped_unasked = fault == Fault::kDroppedUnasked,
          .hearsay = fault == Fault::kHearsay,
          .hand_over_unasked = fault == Fault::kHandOverUnasked,
          .answer_used_late = fault == Fault::kAnswerUsedLate,
          .entitlement_not_checked = fault == Fault::kEntitlementNotChecked};
}

}  // namespace hf::sim::life
