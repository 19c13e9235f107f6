#include "daemon/rollover.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "crypto/crypto.h"
#include "daemon/catalog_inner.h"
#include "daemon/keeper_client.h"
#include "daemon/log.h"
#include "daemon/rollover_inner.h"
#include "daemon/secure_boot_vm.h"
#include "daemon/vm_operations.h"
#include "hypervisor/guest_agent.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr auto kAgentAnswers = 3s;
constexpr auto kHookLimit = 120s;
constexpr auto kVerdictLimit = 180s;

// Those that a roll-over changes and looks back at.
constexpr std::string_view kRolled[] = {"PK", "KEK", "db", "dbx", "MokList", "MokListX"};

}  // namespace

Error nothing_changed(Error error, std::string mend) {
  error.effect = "nothing was changed";
  error.mend = std::move(mend);
  return error;
}

bool same_keys(const attestation::KeyVariables& a, const attestation::KeyVariables& b) {
  return std::ranges::all_of(kRolled, [&](std::string_view name) {
    auto one = a.find(name);
    auto other = b.find(name);
    if (one == a.end() || other == b.end()) return one == a.end() && other == b.end();
    return one->second == other->second;
  });
}

std::string digest_in(const attestation::KeyVariables& variables, std::string_view name) {
  auto found = variables.find(name);
  return found == variables.end() ? std::string() : crypto::sha256(found->second).hex();
}

// By variable, what becomes of those that `plan` changes.
std::map<std::string, std::string> made_by(const KeyPlan& plan) {
  std::map<std::string, std::string> made;
  const attestation::KeyVariables after = key_variables(plan.after);
  for (const secure_boot::Change& change : plan.back) {
    made[change.variable] = digest_in(after, change.variable);
  }
  return made;
}

Error Rollover::not_running() const {
  return Error{.code = ErrorCode::kConflict,
               .cause = "VM \"" + row_.name + "\" does not run: its guest cannot reseal",
               .effect = "nothing was changed",
               .mend = "holdfast vm start " + row_.name +
                       "; the keys of a stopped VM are changed by holdfast secure-boot "
                       "set|append|profile, with the disk's recovery key at hand"};
}

// A VM that is stopped and cannot be started again is worse off than one with old keys.
Status Rollover::can_start_again() {
  Status may = check_may_start(services_, row_, {});
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
  if (plan.certain || request_.without_reseal) return plan;
  return a_guess();
}

Error Rollover::a_guess() const {
  return Error{.code = ErrorCode::kConflict,
               .cause = "which certificate will vouch for VM \"" + row_.name +
                        "\"'s boot programs with these keys is a guess, and so is PCR 7",
               .effect = "nothing was changed: the guest could not open its disk if it were wrong",
               .mend = "holdfast vm check " + row_.name +
                       " says what is known of them; with the disk's recovery key at hand, "
                       "--without-reseal"};
}

// The guest reseals for both values; what is needed to go back is kept.
Result<RolloverRecord> Rollover::prepare(const KeyPlan& plan) {
  RolloverRecord record{.pcr7_before = plan.pcr7_now,
                        .pcr7_after = plan.pcr7_then,
                        .in_guest = request_.way == RolloverWay::kInGuest,
                        .way_back = attestation::to_json(plan.way_back),
                        .back = plan.back,
                        .made = made_by(plan)};
  if (!request_.without_reseal) {
    progress_.step("ask the guest to reseal for PCR 7 " + plan.pcr7_then.substr(0, 16) + "…");
    TRY(reseal({"present", plan.pcr7_then}, kAgentWithin));
    record.resealed = true;
  }
  progress_.step("save the variable store as it is");
  TRY(ask_vm_keeper(services_, row_,
                    {{"op", "secure_boot_save"}, {"name", std::string(kRolloverSaved)}},
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
  VmDefinition definition = TRY(parse_definition(row_.definition));
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
                                            sys::to_text(to_json(record)));
}

Result<RolloverRecord> Rollover::kept() {
  std::string text = TRY(services_.catalog->attestation(row_.id)).rollover;
  if (!text.empty()) return parse_rollover_record(text);
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
      ask_vm_keeper(services_, row_, {{"op", "secure_boot"}}, progress_);
  if (!answer.ok()) return edit;
  Result<secure_boot::SecureBootVariables> now = variables_of(*answer);
  if (!now.ok()) return edit;
  edit.outcome =
      same_keys(key_variables(*now), wanted) ? Edit::Outcome::kChanged : Edit::Outcome::kUnchanged;
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

Result<VerdictRow> Rollover::start() {
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
  if (!running()) return not_running();
  Result<KeyPlan> plan = planned();
  if (!plan.ok()) {
    // Perhaps by this command, when it broke off.
    Result<RolloverRecord> begun = kept();
    if (plan.error().code != ErrorCode::kExists || !begun.ok() || !begun->opens_under_both()) {
      return std::move(plan).error();
    }
    return complete(*std::move(begun));
  }
  TRY(can_start_again());
  RolloverRecord record = TRY(prepare(*plan));
  std::string announced = TRY(announce(plan->change));
  if (Status stopped = stop(false); !stopped.ok()) {
    drop_planned(announced);
    return std::move(stopped).error().with_effect("the keys are as they were");
  }
  Edit edit = change_keys(request_.changes, key_variables(plan->after));
  if (edit.outcome != Edit::Outcome::kChanged) {
    return not_edited(std::move(edit), announced, true);
  }
  return finish(std::move(record), start());
}

sys::JsonObject Rollover::outcome(const RolloverRecord& record, std::string_view verdict) const {
  return {{"vm", row_.name},
          {"verdict", verdict},
          {"pcr7_before", record.pcr7_before},
          {"pcr7_after", record.pcr7_after}};
}

// After the start: the guest needs the new value only, once it is known to be right.
Result<sys::JsonObject> Rollover::finish(RolloverRecord record, const Result<VerdictRow>& verdict) {
  std::string mend = "holdfast secure-boot rollover " + row_.name + " --back";
  if (!verdict.ok()) {
    Error error = verdict.error();
    error.effect = "the keys are changed, and the VM is not known to have started";
    error.mend = mend;
    return error;
  }
  sys::JsonObject seen = TRY(sys::parse_json_object(verdict->record));
  if (verdict->verdict != "Healthy") {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "with the changed keys the VM's boot is " + verdict->verdict + ": " +
                          TRY(sys::get_string_or(seen, "summary", "")),
                 .effect = "the keys are changed; what the guest sealed opens under both",
                 .mend = mend};
  }
  sys::JsonObject result = outcome(record, verdict->verdict);
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
  sys::JsonObject answer =
      TRY(ask_keeper(services.paths.run_file(vm, "control.sock"), {{"op", "pcrs"}}, 3s));
  const sys::JsonObject& bank =
      *TRY(sys::get_object(*TRY(sys::get_object(answer, "pcrs")), "sha256"));
  return sys::get_string(bank, "7");
}

// What waited for a restart, or was broken off before the guest gave the old value up.
Result<sys::JsonObject> Rollover::complete(RolloverRecord record) {
  if (!running()) return not_running();
  if (record.confirmed || !record.resealed) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "no roll-over of VM \"" + row_.name + "\" waits for its end",
                 .effect = "nothing was changed",
                 .mend = "holdfast secure-boot show " + row_.name};
  }
  const std::string now = TRY(pcr7_of(services_, row_.id));
  if (now != record.pcr7_after) {
    const bool old = now == record.pcr7_before;
    return Error{
        .code = ErrorCode::kConflict,
        .cause = old ? "VM \"" + row_.name + "\" has not been restarted since its keys were changed"
                     : "PCR 7 is neither what it was nor what was predicted",
        .effect = "the guest opens under the old value and the predicted one, as before",
        .mend =
            old ? "restart the guest, then holdfast secure-boot rollover " + row_.name + " --finish"
                : "holdfast attest baseline diff " + row_.name + " says what differs"};
  }
  progress_.step("appraise the boot once more");
  sys::JsonObject checked =
      TRY(services_.attestation->check(row_, {.ask_guest = true, .actor = request_.actor}));
  return finish(std::move(record), VerdictRow{.verdict = TRY(sys::get_string(checked, "verdict")),
                                              .record = sys::to_text(checked)});
}

Result<sys::JsonObject> roll_over(Services& services, VmId vm, const RolloverRequest& request,
                                  Progress& progress) {
  Rollover rollover(services, TRY(services.catalog->vm(vm)), request, progress);
  switch (request.way) {
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

void finish_rollover_if_due(Services& services, const VmRow& row, const sys::JsonObject& verdict) {
  Result<AttestationRow> stored = services.catalog->attestation(row.id);
  if (!stored.ok() || stored->rollover.empty()) return;
  Result<RolloverRecord> record = parse_rollover_record(stored->rollover);
  if (!record.ok() || !record->in_guest || !record->opens_under_both()) return;
  Result<std::string> healthy = sys::get_string_or(verdict, "verdict", "");
  if (!healthy.ok() || *healthy != "Healthy") return;
  Result<std::string> pcr7 = pcr7_of(services, row.id);
  if (!pcr7.ok() || *pcr7 != record->pcr7_after) return;  // not restarted yet
  Result<uint64_t> job = services.jobs->submit(
      "secure-boot-finish", row.name, [&services, vm = row.id](Progress& progress) {
        return roll_over(services, vm, {.way = RolloverWay::kFinish, .actor = "holdfastd"},
                         progress);
      });
  if (!job.ok()) log_info("VM " + row.name + ": " + job.error().cause);
}

}  // namespace hf::daemon
