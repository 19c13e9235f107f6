// A roll-over by signed updates that the running guest's own firmware takes.
#include "control/secure_boot/rollover_inner.h"
#include "control/secure_boot/secure_boot_vm.h"
#include "hypervisor/guest_variables.h"
#include "secure_boot/keys/authenticated_update.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr auto kAgentAnswers = 3s;
constexpr auto kPushLimit = 60s;
}  // namespace

Result<sys::JsonObject> Rollover::in_guest() {
  if (!running()) return attestation::guest_not_running(row_.name);
  KeyPlan plan = TRY(planned());
  if (!plan.handed_over) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "no operating system runs in VM \"" + row_.name + "\" yet",
                 .effect = "nothing was changed",
                 .mend = "holdfast attest show " + row_.name + " says how its boot goes on"};
  }
  RolloverRecord record = TRY(prepare(plan));
  std::string announced = TRY(announce(plan.change));
  progress_.step("have the guest's firmware take the update");
  Status pushed = push(request_.changes, plan);
  // What counts is what stands in the store, not what the guest says.
  Result<secure_boot::SecureBootVariables> now = services_.attestation->variables_now(row_);
  if (!now.ok()) {
    return std::move(now).error().with_effect(
        "whether the guest's firmware took the update is not known; what the guest sealed opens "
        "either way");
  }
  const attestation::KeysNow keys = attestation::keys_now(attestation::key_variables(*now), plan);
  if (keys == attestation::KeysNow::kAsBefore) {
    drop_planned(announced);
    Error error = pushed.ok() ? Error{.code = ErrorCode::kConflict,
                                      .cause =
                                          "the guest wrote the update, and its variables are "
                                          "as they were"}
                              : std::move(pushed).error();
    error.effect = "the keys are as they were";
    return error;
  }
  if (keys == attestation::KeysNow::kOther) {
    return as_found(std::move(record), plan, announced, pushed);
  }
  sys::JsonObject result = outcome(record, "pending");
  result["note"] = "the keys are changed; the next restart of the guest measures them";
  result["resealed"] = record.resealed;
  result["back"] = "holdfast secure-boot rollover " + row_.name + " --back";
  return result;
}

Status Rollover::push(const std::vector<secure_boot::Change>& changes, const KeyPlan& plan) {
  hypervisor::GuestAgent agent(services_.paths.run_file(row_.id, "qga.sock"), kAgentAnswers);
  for (const secure_boot::Change& change : changes) {
    const secure_boot::UpdateTarget target =
        TRY(secure_boot::update_target(change.data, plan.before));
    const secure_boot::KeyVariableName& name = secure_boot::name_of(target.variable);
    const bool append = target.kind == secure_boot::UpdateKind::kAppend;
    TRY(hypervisor::write_efi_variable(
        agent,
        {.file = std::string(name.name) + "-" + name.vendor.text(),
         .attributes =
             secure_boot::attribute::kSecureBoot | (append ? secure_boot::attribute::kAppend : 0),
         .data = change.data},
        kPushLimit));
  }
  return {};
}

// The firmware made something else of the updates than was predicted, or took some of them only:
// the guest reseals for what will be measured then.
Result<sys::JsonObject> Rollover::as_found(RolloverRecord record, const KeyPlan& plan,
                                           const std::string& planned, const Status& pushed) {
  progress_.step("predict again: the firmware has changed the keys in its own way");
  KeyPlan found = TRY(services_.attestation->plan_found(row_, plan.before));
  attestation::take_as_found(record, found);
  if (record.resealed) TRY(reseal({"present", found.pcr7_then}, kAgentWithin));
  TRY(keep(record));
  drop_planned(planned);
  TRY(announce(found.change));
  sys::JsonObject result = outcome(record, "pending");
  std::string how = "the firmware changed the keys in its own way";
  if (!pushed.ok()) how = "the firmware took some of the updates only: " + pushed.error().cause;
  result["note"] = how + "; holdfast secure-boot show " + row_.name +
                   " tells the keys, the next restart of the guest measures them";
  result["resealed"] = record.resealed;
  result["back"] = "holdfast secure-boot rollover " + row_.name + " --back";
  return result;
}

}  // namespace hf::control
