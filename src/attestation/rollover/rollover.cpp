#include "attestation/rollover/rollover.h"

#include <algorithm>

#include "crypto/crypto.h"
#include "secure_boot/change/variables_json.h"
#include "sys/json.h"

namespace hf::attestation {
namespace {

// Those that a roll-over changes and looks back at.
constexpr std::string_view kRolled[] = {"PK", "KEK", "db", "dbx", "MokList", "MokListX"};

// A variable's content by its digest, hex; empty: there is none.
std::string digest_in(const KeyVariables& variables, std::string_view name) {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string() : crypto::sha256(found->second).hex();
}

// By variable, what becomes of those that `plan` changes.
std::map<std::string, std::string> made_by(const KeyPlan& plan) {
  std::map<std::string, std::string> made;
  const KeyVariables after = key_variables(plan.after);
  for (const secure_boot::Change& change : plan.back) {
    made[change.variable] = digest_in(after, change.variable);
  }
  return made;
}

Error a_guess(const std::string& vm) {
  return {.code = ErrorCode::kConflict,
          .cause = "which certificate will vouch for VM \"" + vm +
                   "\"'s boot programs with these keys is a guess, and so is PCR 7",
          .effect = "nothing was changed: the guest could not open its disk if it were wrong",
          .mend = "holdfast vm check " + vm +
                  " says what is known of them; with the disk's recovery key at hand, "
                  "--without-reseal"};
}

}  // namespace

sys::JsonObject to_json(const RolloverRecord& record) {
  sys::JsonObject made;
  for (const auto& [variable, digest] : record.made) made[variable] = digest;
  return {{"version", 1},
          {"pcr7_before", record.pcr7_before},
          {"pcr7_after", record.pcr7_after},
          {"resealed", record.resealed},
          {"confirmed", record.confirmed},
          {"in_guest", record.in_guest},
          {"way_back", to_json(record.way_back)},
          {"back", secure_boot::to_json(record.back)},
          {"made", std::move(made)}};
}

Result<RolloverRecord> parse_rollover_record(std::string_view text) {
  const sys::JsonObject json = TRY(sys::parse_json_object(text));
  RolloverRecord record{
      .pcr7_before = TRY(sys::get_string(json, "pcr7_before")),
      .pcr7_after = TRY(sys::get_string(json, "pcr7_after")),
      .resealed = TRY(sys::get_bool(json, "resealed")),
      .confirmed = TRY(sys::get_bool(json, "confirmed")),
      .in_guest = TRY(sys::get_bool(json, "in_guest")),
      .way_back = TRY(planned_change_from(*TRY(sys::get_object(json, "way_back")))),
      .back = TRY(secure_boot::changes_from_json(*TRY(sys::get_array(json, "back"))))};
  for (const auto& member : *TRY(sys::get_object(json, "made"))) {
    if (!member.value().is_string()) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "a broken record of a roll-over"};
    }
    record.made[std::string(member.key())] = member.value().get_string();
  }
  return record;
}

RolloverRecord record_of(const KeyPlan& plan, bool in_guest) {
  return {.pcr7_before = plan.pcr7_now,
          .pcr7_after = plan.pcr7_then,
          .in_guest = in_guest,
          .way_back = plan.way_back,
          .back = plan.back,
          .made = made_by(plan)};
}

void take_as_found(RolloverRecord& record, const KeyPlan& found) {
  record.pcr7_after = found.pcr7_then;
  record.back = found.back;
  record.made = made_by(found);
}

// ---- Where the keys are ----

bool same_keys(const KeyVariables& a, const KeyVariables& b) {
  return std::ranges::all_of(kRolled, [&](std::string_view name) {
    const auto one = a.find(name);
    const auto other = b.find(name);
    if (one == a.end() || other == b.end()) return one == a.end() && other == b.end();
    return one->second == other->second;
  });
}

KeysNow keys_now(const KeyVariables& now, const KeyPlan& plan) {
  if (same_keys(now, key_variables(plan.before))) return KeysNow::kAsBefore;
  return same_keys(now, key_variables(plan.after)) ? KeysNow::kAsPlanned : KeysNow::kOther;
}

// ---- What may be done ----

Error guest_not_running(const std::string& vm) {
  return {.code = ErrorCode::kConflict,
          .cause = "VM \"" + vm + "\" does not run: its guest cannot reseal",
          .effect = "nothing was changed",
          .mend = "holdfast vm start " + vm +
                  "; the keys of a stopped VM are changed by holdfast secure-boot "
                  "set|append|profile, with the disk's recovery key at hand"};
}

Status may_roll(const KeyPlan& plan, bool without_reseal, const std::string& vm) {
  if (plan.certain || without_reseal) return {};
  return a_guess(vm);
}

bool resumes(const Error& plan_error, const std::optional<RolloverRecord>& begun) {
  return plan_error.code == ErrorCode::kExists && begun && begun->opens_under_both();
}

Status may_finish(const RolloverRecord& record, std::string_view pcr7_now, const std::string& vm) {
  if (!record.opens_under_both()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "no roll-over of VM \"" + vm + "\" waits for its end",
                 .effect = "nothing was changed",
                 .mend = "holdfast secure-boot show " + vm};
  }
  if (pcr7_now == record.pcr7_after) return {};
  const bool old = pcr7_now == record.pcr7_before;
  return Error{
      .code = ErrorCode::kConflict,
      .cause = old ? "VM \"" + vm + "\" has not been restarted since its keys were changed"
                   : "PCR 7 is neither what it was nor what was predicted",
      .effect = "the guest opens under the old value and the predicted one, as before",
      .mend = old ? "restart the guest, then holdfast secure-boot rollover " + vm + " --finish"
                  : "holdfast attest baseline diff " + vm + " says what differs"};
}

bool waits_for_restart(const RolloverRecord& record) {
  return record.in_guest && record.opens_under_both();
}

bool ends_rollover(const RolloverRecord& record, const VerdictFacts& verdict,
                   std::string_view pcr7_now) {
  return waits_for_restart(record) && verdict.verdict == Verdict::kHealthy &&
         pcr7_now == record.pcr7_after;
}

Status judge_rolled(const VerdictFacts& verdict, const std::string& vm) {
  if (verdict.verdict == Verdict::kHealthy) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "with the changed keys the VM's boot is " +
                        std::string(name_of(verdict.verdict)) + ": " + verdict.summary,
               .effect = "the keys are changed; what the guest sealed opens under both",
               .mend = "holdfast secure-boot rollover " + vm + " --back"};
}

Status judge_rolled_back(const VerdictFacts& verdict, const std::string& vm) {
  if (verdict.verdict == Verdict::kHealthy) return {};
  return Error{
      .code = ErrorCode::kConflict,
      .cause = "with the keys of before the VM's boot is " + std::string(name_of(verdict.verdict)) +
               ": " + verdict.summary,
      .effect =
          "the keys are those of before; the guest was not asked to give the other "
          "value up",
      .mend = "holdfast attest baseline diff " + vm + " says what differs; then --back again"};
}

Status may_go_back(const RolloverRecord& record, const KeyVariables& now, const std::string& vm,
                   std::string_view saved) {
  for (const secure_boot::Change& change : record.back) {
    const std::string digest = digest_in(now, change.variable);
    const auto made = record.made.find(change.variable);
    if (made == record.made.end() || digest == made->second) continue;
    const bool back_already = digest == (change.action == secure_boot::ChangeAction::kDelete
                                             ? std::string()
                                             : crypto::sha256(change.data).hex());
    if (back_already) continue;
    return Error{.code = ErrorCode::kConflict,
                 .cause = change.variable +
                          " was changed after the roll-over, by the guest or by hand: going back "
                          "would lose that",
                 .effect = "nothing was changed",
                 .mend = "change it by holdfast secure-boot rollover " + vm +
                         " --to PROFILE or --update FILE; the whole store as it was: stop the VM, "
                         "then holdfast secure-boot restore " +
                         vm + " " + std::string(saved)};
  }
  return {};
}

Result<WayBack> plan_way_back(const RolloverRecord& record, const BackSituation& situation,
                              const std::string& vm) {
  WayBack way{.change = record.way_back};
  const bool open = record.opens_under_both() || situation.without_reseal;
  if (!situation.running) {
    if (open) return way;
    return guest_not_running(vm);
  }
  HF_ASSERT(situation.plan.has_value());
  const Result<KeyPlan>& plan = *situation.plan;
  if (!plan.ok() && plan.error().code == ErrorCode::kExists) return Error(plan.error());
  // A VM that does not come up with its keys shows nothing to predict from, and asks nobody.
  way.force_off = plan.ok() && !plan->handed_over;
  if (!plan.ok() || way.force_off) {
    if (open) return way;
    if (!plan.ok()) return Error(plan.error());
    Error error = guest_not_running(vm);
    error.mend = "with the disk's recovery key at hand, --without-reseal";
    return error;
  }
  way.change = plan->change;
  way.change.why = "the roll-over of the Secure Boot keys is taken back";
  way.predicted = true;
  if (situation.without_reseal) return way;
  if (!plan->certain && !record.opens_under_both()) return a_guess(vm);
  const bool opens_then = record.opens_under_both() && plan->pcr7_then == record.pcr7_before;
  if (!opens_then) way.reseal_for = plan->pcr7_then;
  return way;
}

void take_resealed_back(RolloverRecord& record, const std::string& pcr7) {
  record.pcr7_before = pcr7;
  record.resealed = true;
  record.confirmed = false;
}

}  // namespace hf::attestation
