// A planned change of a VM's Secure Boot keys without a lock-out.
//
// What is sealed to PCR 7 in the guest (a LUKS or BitLocker key) opens no more once the keys
// differ. So first the value that PCR 7 will have is predicted, and the guest reseals for it; only
// then are the keys changed. What was there is saved, and one command goes back.
//
//   predict ─▶ guest reseals for both values ─▶ save store ─▶ announce ─▶ stop ─▶ edit ─▶ start
//     ─▶ verdict is Healthy ─▶ guest reseals for the new value alone
//
// In the guest, by its own firmware, nothing is stopped: signed updates alone, and the rest waits
// for the guest's next restart:
//
//   predict ─▶ guest reseals for both values ─▶ save store ─▶ announce ─▶ guest writes the updates
//     ┄ restart ┄▶ verdict is Healthy ─▶ guest reseals for the new value alone
//
// Until the guest has answered nothing is changed. Whatever breaks off in between, the guest opens
// under the old value and the new: the same command, or --finish, ends it; --back takes it back.
// docs/runbooks/secure-boot-rollover.md.
#pragma once

#include <chrono>

#include "attestation/rollover/rollover.h"
#include "control/services.h"
#include "secure_boot/change/change.h"

namespace hf::control {

// The hook in the guest: takes PCR 7 values (SHA-256, hex) or the word "present"; on its return
// what it guards opens under each of them and no other.
inline constexpr std::string_view kResealHook = "/etc/holdfast/reseal";
inline constexpr std::string_view kRolloverSaved = "before-rollover";  // name of the saved store

enum class RolloverWay {
  kForward,
  kInGuest,  // forward, by signed updates that the running guest's firmware takes
  kFinish,   // what waits for a restart, or was broken off
  kBack,     // to what the last roll-over saved
};

struct RolloverRequest {
  RolloverWay way = RolloverWay::kForward;
  std::vector<secure_boot::Change> changes;
  bool without_reseal = false;  // the operator has the recovery key at hand
  std::chrono::seconds guest_limit{120};
  std::string actor;
};
Result<RolloverRequest> parse_rollover(const sys::JsonObject& body);

Result<sys::JsonObject> roll_over(Services& services, VmId vm, const RolloverRequest& request,
                                  Progress& progress);

// After a verdict: ends a roll-over in the guest once the restart that it waited for has come, as a
// job. Asks nobody where there is nothing to end.
void finish_rollover_if_due(Services& services, const VmRow& row,
                            const attestation::VerdictFacts& verdict);

}  // namespace hf::control
