#include "control/secure_boot/rollover.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "control/core/log.h"
#include "control/secure_boot/rollover_inner.h"
#include "control/secure_boot/secure_boot_vm.h"
#include "control/store/catalog_inner.h"
#include "control/vm/vm_operations.h"
#include "crypto/crypto.h"
#include "hypervisor/guest_agent.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kAgentAnswers = 3s;
constexpr auto kHookLimit = 120s;
constexpr auto kVerdictLimit = 180s;

}  // namespace

Result<attestation::VerdictFacts> facts_of(Result<attestation::VerdictRecord> verdict) {
  if (!verdict.ok()) return std::move(verdict).error();
  return std::move(verdict->of);
}

Error nothing_changed(Error error, std::string mend) {
  error.effect = "nothing was changed";
  error.mend = std::move(mend);
  return error;
}

// A VM that is stopped and cannot be started again is worse off than one with old keys.
Status Rollover::can_start_again() {
  Status may = check_may_start(services_, row_);
  if (may.ok()) {
    Result<vault::SiteIdentity> vault = services_.vault.site_identity();
    if (!vault.ok()) may = std::move(vault).error();
  }
  if (may.ok()) return {};
  std::string mend = may.error().mend;
  return nothing_changed(
      std::move(may).error().context("the VM could not be started again, were it stopped now"),
      std::move(mend));
}

Result<KeyPlan> Rollover::planned() {
  progress_.step("predict what the changed keys will measure");
  KeyPlan plan = TRY(services_.attestation->plan_keys(row_, request_.changes));
  TRY(attestation::may_roll(plan, request_.without_reseal, row_.name));
  return plan;
}

// The guest reseals for both values; what is needed to go back is kept.
Result<RolloverRecord> Rollover::prepare(const KeyPlan& plan) {
  RolloverRecord record = attestation::record_of(plan, request_.way == RolloverWay::kInGuest);
  if (!request_.without_reseal) {
    progress_.step("ask the guest to reseal for PCR 7 " + plan.pcr7_then.substr(0, 16) + "…");
    TRY(reseal({"present", plan.pcr7_then}, kAgentWithin));
    record.resealed = true;
  }
  progress_.step("save the variable store as it is");
  TRY(ask_vm_keeper(services_, row_,
                    keeper_protocol::SecureBootSave{.name = std::string(kRolloverSaved)},
                    progress_));
  TRY(keep(record));
  for (const secure_boot::Change& change : request_.changes) {
    TRY(services_.catalog->audit(request_.actor, "secure-boot rollover", row_.name,
                                 secure_boot::describe(change)));
  }
  return record;
}

Result<std::string> Rollover::announce(attestation::PlannedChange change) {
  sys::JsonObject announced =
      TRY(services_.attestation->announce(row_, std::move(change), request_.actor));
  return sys::get_string(announced, "change");
}

// Waits for an agent, as after a start; runs the hook.
Status Rollover::reseal(const std::vector<std::string>& values, std::chrono::seconds agent_within) {
  vm::Definition definition = TRY(vm::parse_definition(row_.definition));
  const std::string mend =
      "install qemu-guest-agent and the hook " + std::string(kResealHook) +
      " in the guest; or, with the disk's recovery key at hand, --without-reseal";
  if (!definition.guest_agent) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = "VM \"" + row_.name + "\" has no port for a guest agent",
                 .effect = "nothing was changed",
                 .mend = mend};
  }
  hypervisor::GuestAgent agent(services_.paths.run_file(row_.id, "qga.sock"), kAgentAnswers);
  auto end = std::chrono::steady_clock::now() + agent_within;
  Status there = agent.ping();
  while (!there.ok() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(500ms);
    there = agent.ping();
  }
  if (!there.ok()) return nothing_changed(std::move(there).error(), mend);
  Result<hypervisor::GuestRun> run = agent.run(std::string(kResealHook), values, kHookLimit);
  if (!run.ok()) return nothing_changed(std::move(run).error(), mend);
  if (run->exit_status == 0 && run->signal == 0) return {};
  std::string words = run->errors.empty() ? run->output : run->errors;
  return Error{.code = ErrorCode::kConflict,
               .cause = fmt::format("the guest did not reseal: {} ended with status {}: {}",
                                    kResealHook, run->exit_status, words.substr(0, 400)),
               .effect = "nothing was changed",
               .mend = "mend the hook in the guest, then give the command again"};
}

Status Rollover::keep(const RolloverRecord& record) {
  return services_.catalog->set_attestation(row_.id, AttestationPart::kRollover,
                                            sys::to_text(attestation::to_json(record)));
}

Result<RolloverRecord> Rollover::kept() {
  std::string text = TRY(services_.catalog->attestation(row_.id)).rollover;
  if (!text.empty()) return attestation::parse_rollover_record(text);
  return Error{.code = ErrorCode::kNotFound,
               .cause = "VM \"" + row_.name + "\" has no roll-over to go back from",
               .effect = "nothing was changed",
               .mend = "holdfast secure-boot show " + row_.name + " lists saved stores"};
}

// The VM is wanted all the while: a holdfastd that dies in between starts it again.
Status Rollover::stop(bool force) {
  if (!running()) return {};
  TRY(stop_vm(services_, row_.id, {.force = force, .guest_limit = request_.guest_limit},
              progress_));
  return services_.catalog->set_wanted(row_.id, true);
}

// An answer that was lost says nothing of what was done: the store is looked at.
Rollover::Edit Rollover::change_keys(const std::vector<secure_boot::Change>& changes,
                                     const attestation::KeyVariables& wanted) {
  Result<sys::JsonObject> edited =
      edit_secure_boot(services_, row_.id, changes, request_.actor, progress_);
  if (edited.ok()) return {};
  Edit edit{.outcome = Edit::Outcome::kUnknown, .error = std::move(edited).error()};
  progress_.step("look at the variable store, since it was not said that it was changed");
  Result<sys::JsonObject> answer =
      ask_vm_keeper(services_, row_, keeper_protocol::SecureBoot{}, progress_);
  if (!answer.ok()) return edit;
  Result<secure_boot::SecureBootVariables> now = variables_of(*answer);
  if (!now.ok()) return edit;
  edit.outcome = attestation::same_keys(attestation::key_variables(*now), wanted)
                     ? Edit::Outcome::kChanged
                     : Edit::Outcome::kUnchanged;
  return edit;
}

// An edit is one record of the journal: what is not as wanted is as it was.
Error Rollover::not_edited(Edit edit, const std::string& planned, bool was_running) {
  Error error = std::move(edit.error);
  if (edit.outcome == Edit::Outcome::kUnknown) {
    error.effect =
        "whether the keys were changed is not known, and the VM is stopped; what the "
        "guest sealed opens either way";
    error.mend = "holdfast secure-boot show " + row_.name + ", then the same command again or " +
                 "holdfast secure-boot rollover " + row_.name + " --back";
    return error;
  }
  drop_planned(planned);
  error.effect = "the keys are as they were";
  if (!was_running) return error;
  Result<sys::JsonObject> started =
      start_vm(services_, row_.id, {.actor = request_.actor}, progress_);
  error.effect +=
      started.ok() ? ", and the VM runs again" : "; the VM is stopped: " + started.error().cause;
  if (!started.ok()) error.mend = "holdfast vm start " + row_.name;
  return error;
}

Result<attestation::VerdictRecord> Rollover::start() {
  Micros since = catalog_now();
  TRY(start_vm(services_, row_.id, {.actor = request_.actor}, progress_));
  progress_.step("wait for the verdict of the boot");
  return services_.attestation->wait_verdict(TRY(services_.catalog->vm(row_.id)), since,
                                             kVerdictLimit);
}

void Rollover::drop_planned(const std::string& id) {
  Status dropped = services_.attestation->withdraw(row_, id, request_.actor);
  if (!dropped.ok()) log_error(dropped.error().describe());
}

// ---- Forward ----

Result<sys::JsonObject> Rollover::forward() {
  if (!running()) return attestation::guest_not_running(row_.name);
  Result<KeyPlan> plan = planned();
  if (!plan.ok()) {
    // Perhaps by this command, when it broke off.
    Result<RolloverRecord> kept_one = kept();
    std::optional<RolloverRecord> begun;
    if (kept_one.ok()) begun = *std::move(kept_one);
    if (!attestation::resumes(plan.error(), begun)) return std::move(plan).error();
    return complete(*std::move(begun));
  }
  TRY(can_start_again());
  RolloverRecord record = TRY(prepare(*plan));
  std::string announced = TRY(announce(plan->change));
  if (Status stopped = stop(false); !stopped.ok()) {
    drop_planned(announced);
    return std::move(stopped).error().with_effect("the keys are as they were");
  }
  Edit edit = change_keys(request_.changes, attestation::key_variables(plan->after));
  if (edit.outcome != Edit::Outcome::kChanged) {
    return not_edited(std::move(edit), announced, true);
  }
  return finish(std::move(record), facts_of(start()));
}

sys::JsonObject Rollover::outcome(const RolloverRecord& record, std::string_view verdict) const {
  return {{"vm", row_.name},
          {"verdict", verdict},
          {"pcr7_before", record.pcr7_before},
          {"pcr7_after", record.pcr7_after}};
}

// After the start: the guest needs the new value only, once it is known to be right.
Result<sys::JsonObject> Rollover::finish(RolloverRecord record,
                                         const Result<attestation::VerdictFacts>& verdict) {
  std::string mend = "holdfast secure-boot rollover " + row_.name + " --back";
  if (!verdict.ok()) {
    Error error = verdict.error();
    error.effect = "the keys are changed, and the VM is not known to have started";
    error.mend = mend;
    return error;
  }
  TRY(attestation::judge_rolled(*verdict, row_.name));
  sys::JsonObject result = outcome(record, attestation::name_of(verdict->verdict));
  result["back"] = mend;
  if (record.resealed) {
    progress_.step("ask the guest to reseal for the new value alone");
    // Kept before the guest is asked: if its answer is lost, it may open under the new value alone,
    // and a way back that does not ask it to reseal first would lock it out.
    record.confirmed = true;
    TRY(keep(record));
    Status confirmed = reseal({"present"}, request_.guest_limit);
    result["resealed"] = confirmed.ok();
    if (!confirmed.ok())
      result["note"] = "the old value may still open too: " + confirmed.error().cause;
  }
  return result;
}

// ---- To its end ----

Result<std::string> pcr7_of(const Services& services, VmId vm) {
  const keeper_protocol::Client keeper(services.paths.run_file(vm, "control.sock"));
  sys::JsonObject answer = TRY(keeper.ask(keeper_protocol::Pcrs{}, 3s));
  const sys::JsonObject& bank =
      *TRY(sys::get_object(*TRY(sys::get_object(answer, "pcrs")), "sha256"));
  return sys::get_string(bank, "7");
}

// What waited for a restart, or was broken off before the guest gave the old value up.
Result<sys::JsonObject> Rollover::complete(RolloverRecord record) {
  if (!running()) return attestation::guest_not_running(row_.name);
  // Nobody is asked about a roll-over that has its end.
  std::string now;
  if (record.opens_under_both()) now = TRY(pcr7_of(services_, row_.id));
  TRY(attestation::may_finish(record, now, row_.name));
  progress_.step("appraise the boot once more");
  return finish(std::move(record), facts_of(services_.attestation->check(
                                       row_, {.ask_guest = true, .actor = request_.actor})));
}

namespace {

Result<sys::JsonObject> roll(Rollover& rollover, RolloverWay way) {
  switch (way) {
    case RolloverWay::kForward:
      return rollover.forward();
    case RolloverWay::kInGuest:
      return rollover.in_guest();
    case RolloverWay::kFinish:
      return rollover.complete(TRY(rollover.kept()));
    case RolloverWay::kBack:
      break;
  }
  return rollover.back();
}

std::string_view words(RolloverWay way) {
  switch (way) {
    case RolloverWay::kForward:
      return "its Secure Boot keys were rolled over";
    case RolloverWay::kInGuest:
      return "its Secure Boot keys were changed in the running guest; its restart ends the "
             "roll-over";
    case RolloverWay::kFinish:
      return "the roll-over of its Secure Boot keys is finished";
    case RolloverWay::kBack:
      break;
  }
  return "the roll-over of its Secure Boot keys was taken back";
}

}  // namespace

Result<sys::JsonObject> roll_over(Services& services, VmId vm, const RolloverRequest& request,
                                  Progress& progress) {
  const VmRow row = TRY(services.catalog->vm(vm));
  Rollover rollover(services, row, request, progress);
  sys::JsonObject rolled = TRY(roll(rollover, request.way));
  services.happened("secure-boot.rolled-over", row.name, std::string(words(request.way)),
                    progress.by());
  return rolled;
}

void finish_rollover_if_due(Services& services, const VmRow& row,
                            const attestation::VerdictFacts& verdict) {
  Result<AttestationRow> stored = services.catalog->attestation(row.id);
  if (!stored.ok() || stored->rollover.empty()) return;
  Result<RolloverRecord> record = attestation::parse_rollover_record(stored->rollover);
  if (!record.ok() || !attestation::waits_for_restart(*record)) return;
  Result<std::string> pcr7 = pcr7_of(services, row.id);
  if (!pcr7.ok() || !attestation::ends_rollover(*record, verdict, *pcr7)) return;
  Result<uint64_t> job = services.jobs->submit(
      "secure-boot-finish", row.name, [&services, vm = row.id](Progress& progress) {
        return roll_over(services, vm, {.way = RolloverWay::kFinish, .actor = "holdfastd"},
                         progress);
      });
  if (!job.ok()) log_info("VM " + row.name + ": " + job.error().cause);
}

}  // namespace hf::control
