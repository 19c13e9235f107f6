// A roll-over of a VM's Secure Boot keys: what is kept of it, and what may be done at each step so
// that no guest is locked out. Decisions only; who carries them out stops, edits and starts.
//
// What a guest sealed to PCR 7 opens under the value before and the value after from the time it
// was asked to reseal until it was asked to give the old one up.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attestation/rollover/key_plan.h"
#include "attestation/verdict/verdict_record.h"

namespace hf::attestation {

// What is kept between a roll-over and its way back.
struct RolloverRecord {
  std::string pcr7_before;  // SHA-256, hex
  std::string pcr7_after;
  bool resealed = false;   // the guest was asked to reseal for both
  bool confirmed = false;  // the guest was asked to open under the new value alone
  bool in_guest = false;   // the new value comes with the guest's next restart
  PlannedChange way_back;  // what going back is
  std::vector<secure_boot::Change> back;
  // By variable, what the roll-over made of it: SHA-256, hex; empty: it is gone.
  std::map<std::string, std::string> made;
  bool operator==(const RolloverRecord&) const = default;

  // What the guest sealed opens under the old value and under the new.
  bool opens_under_both() const { return resealed && !confirmed; }
};
sys::JsonObject to_json(const RolloverRecord& record);
Result<RolloverRecord> parse_rollover_record(std::string_view text);

RolloverRecord record_of(const KeyPlan& plan, bool in_guest);
// The firmware made something else of the updates than was planned: what counts from now on.
void take_as_found(RolloverRecord& record, const KeyPlan& found);

// ---- Where the keys are ----

// Whether what a roll-over changes is the same in both.
bool same_keys(const KeyVariables& a, const KeyVariables& b);
enum class KeysNow : uint8_t { kAsBefore, kAsPlanned, kOther };
KeysNow keys_now(const KeyVariables& now, const KeyPlan& plan);

// ---- What may be done; `vm` is its name, for the words. Errors say what was and what mends. ----

Error guest_not_running(const std::string& vm);

// Before anything is changed.
Status may_roll(const KeyPlan& plan, bool without_reseal, const std::string& vm);
// The plan found nothing to change: a roll-over that broke off is brought to its end.
bool resumes(const Error& plan_error, const std::optional<RolloverRecord>& begun);
// Whether the guest may be asked to give the old value up.
Status may_finish(const RolloverRecord& record, std::string_view pcr7_now, const std::string& vm);
// A roll-over in the guest waits for a restart: whether this verdict is of it.
bool waits_for_restart(const RolloverRecord& record);
bool ends_rollover(const RolloverRecord& record, const VerdictFacts& verdict,
                   std::string_view pcr7_now);
// The boot after the change, and after the way back.
Status judge_rolled(const VerdictFacts& verdict, const std::string& vm);
Status judge_rolled_back(const VerdictFacts& verdict, const std::string& vm);

// Going back must not take away what came after the roll-over by another hand, such as newer
// entries of dbx. `saved`: the name of the store that was saved before.
Status may_go_back(const RolloverRecord& record, const KeyVariables& now, const std::string& vm,
                   std::string_view saved);
struct BackSituation {
  bool running = false;
  bool without_reseal = false;          // the operator has the recovery key at hand
  std::optional<Result<KeyPlan>> plan;  // of a running VM: what the keys of before will measure
};
struct WayBack {
  PlannedChange change;
  bool force_off = false;  // no operating system runs that could be asked to shut down
  bool predicted = false;  // from the present boot; else the value from before counts
  std::optional<std::string> reseal_for;  // PCR 7, hex: the guest has to reseal first
};
// The value from before counts only where no guest can be asked: shim's state may have changed
// since. An error of the plan (kExists: the keys are back already) is passed on.
Result<WayBack> plan_way_back(const RolloverRecord& record, const BackSituation& situation,
                              const std::string& vm);
// Once the guest has resealed for it.
void take_resealed_back(RolloverRecord& record, const std::string& pcr7);

}  // namespace hf::attestation
