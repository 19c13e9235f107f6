#include "daemon/rollover.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "daemon/attestation.h"
#include "daemon/catalog_inner.h"
#include "daemon/log.h"
#include "daemon/secure_boot_vm.h"
#include "daemon/vm_operations.h"
#include "hypervisor/guest_agent.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr auto kAgentLimit = 3s;
constexpr auto kHookLimit = 120s;
constexpr auto kVerdictLimit = 180s;

Error nothing_changed(Error error, std::string mend) {
  error.effect = "nothing was changed";
  error.mend = std::move(mend);
  return error;
}

// One VM's roll-over, step by step.
class Rollover {
 public:
  Rollover(Services& services, VmRow row, const RolloverRequest& request, Progress& progress)
      : services_(services), row_(std::move(row)), request_(request), progress_(progress) {}

  Result<sys::JsonObject> forward();
  Result<sys::JsonObject> back();

 private:
  bool running() const { return services_.units->running(qemu_unit(row_.id)); }
  Status reseal(const std::vector<std::string>& values, std::chrono::seconds agent_within);
  Status keep(const RolloverRecord& record);
  Result<RolloverRecord> kept();
  Status stop();
  Result<VerdictRow> start();
  void drop_planned(const std::string& id);
  Result<sys::JsonObject> finish(RolloverRecord record, const Result<VerdictRow>& verdict);

  Services& services_;
  VmRow row_;
  const RolloverRequest& request_;
  Progress& progress_;
};

// Waits for an agent, as after a start; runs the hook.
Status Rollover::reseal(const std::vector<std::string>& values, std::chrono::seconds agent_within) {
  VmDefinition definition = TRY(parse_definition(row_.definition));
  std::string mend = "install qemu-guest-agent and the hook " + std::string(kResealHook) +
                     " in the guest; or, with the disk's recovery key at hand, --without-reseal";
  if (!definition.guest_agent) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = "VM \"" + row_.name + "\" has no port for a guest agent",
                 .effect = "nothing was changed",
                 .mend = mend};
  }
  hypervisor::GuestAgent agent(services_.paths.run_file(row_.id, "qga.sock"), kAgentLimit);
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

Status Rollover::stop() {
  if (!running()) return {};
  TRY(stop_vm(services_, row_.id, {.guest_limit = request_.guest_limit}, progress_));
  return {};
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

Result<sys::JsonObject> Rollover::forward() {
  if (!running() && !request_.without_reseal) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row_.name + "\" does not run: its guest cannot reseal",
                 .effect = "nothing was changed",
                 .mend = "holdfast vm start " + row_.name +
                         "; or, with the disk's recovery key at hand, --without-reseal"};
  }
  progress_.step("predict what the changed keys will measure");
  KeyPlan plan = TRY(services_.attestation->plan_keys(row_, request_.changes));
  RolloverRecord record{.pcr7_before = plan.pcr7_now,
                        .pcr7_after = plan.pcr7_then,
                        .way_back = attestation::to_json(plan.way_back),
                        .back = plan.back};
  if (!request_.without_reseal) {
    progress_.step("ask the guest to reseal for PCR 7 " + plan.pcr7_then.substr(0, 16) + "…");
    TRY(reseal({"present", plan.pcr7_then}, 5s));
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
  sys::JsonObject announced =
      TRY(services_.attestation->announce(row_, plan.change, request_.actor));
  std::string planned = TRY(sys::get_string(announced, "change"));
  bool was_running = running();
  if (Status stopped = stop(); !stopped.ok()) {
    drop_planned(planned);
    return std::move(stopped).error().with_effect("the keys are as they were");
  }
  Result<sys::JsonObject> edited =
      edit_secure_boot(services_, row_.id, request_.changes, request_.actor, progress_);
  if (!edited.ok()) {
    drop_planned(planned);
    if (was_running) static_cast<void>(start());
    Error error = std::move(edited).error();
    error.effect = "the keys are as they were";
    return error;
  }
  return finish(record, start());
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
  sys::JsonObject result{{"vm", row_.name},
                         {"verdict", verdict->verdict},
                         {"pcr7_before", record.pcr7_before},
                         {"pcr7_after", record.pcr7_after},
                         {"back", mend}};
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

Result<sys::JsonObject> Rollover::back() {
  RolloverRecord record = TRY(kept());
  attestation::PlannedChange change = TRY(attestation::planned_change_from(record.way_back));
  // What the guest was never asked to give up still opens under the old value.
  if (record.confirmed && !request_.without_reseal) {
    if (!running()) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "VM \"" + row_.name + "\" does not run: its guest cannot reseal",
                   .effect = "nothing was changed",
                   .mend = "holdfast vm start " + row_.name +
                           "; or, with the disk's recovery key at hand, --without-reseal"};
    }
    progress_.step("ask the guest to reseal for PCR 7 " + record.pcr7_before.substr(0, 16) + "…");
    TRY(reseal({"present", record.pcr7_before}, 5s));
    record.confirmed = false;
    TRY(keep(record));
  }
  TRY(services_.catalog->audit(request_.actor, "secure-boot rollover --back", row_.name, ""));
  change.announced = catalog_now();
  change.expires = Micros(change.announced.value + uint64_t{7} * 86400 * 1'000'000);
  sys::JsonObject announced = TRY(services_.attestation->announce(row_, change, request_.actor));
  std::string planned = TRY(sys::get_string(announced, "change"));
  if (Status stopped = stop(); !stopped.ok()) {
    drop_planned(planned);
    return std::move(stopped).error().with_effect("the keys are as they were");
  }
  // The keys alone: the store as a whole holds what the guest has written since.
  Result<sys::JsonObject> edited =
      edit_secure_boot(services_, row_.id, record.back, request_.actor, progress_);
  if (!edited.ok()) {
    drop_planned(planned);
    return std::move(edited).error().with_effect("the keys are as they were");
  }
  std::swap(record.pcr7_before, record.pcr7_after);
  Result<VerdictRow> verdict = start();
  if (!verdict.ok()) return verdict.error();
  sys::JsonObject result{{"vm", row_.name},
                         {"verdict", verdict->verdict},
                         {"pcr7_before", record.pcr7_before},
                         {"pcr7_after", record.pcr7_after}};
  if (record.resealed) {
    progress_.step("ask the guest to reseal for the present value alone");
    Status confirmed = reseal({"present"}, request_.guest_limit);
    result["resealed"] = confirmed.ok();
    if (!confirmed.ok())
      result["note"] = "the other value still opens too: " + confirmed.error().cause;
  }
  TRY(services_.catalog->set_attestation(row_.id, AttestationPart::kRollover, ""));
  return result;
}

}  // namespace

Result<RolloverRequest> parse_rollover(const sys::JsonObject& body) {
  RolloverRequest request;
  request.back = TRY(sys::get_bool_or(body, "back", false));
  request.without_reseal = TRY(sys::get_bool_or(body, "without_reseal", false));
  uint64_t seconds = TRY(sys::get_u64_or(body, "timeout_seconds", 120));
  request.guest_limit = std::chrono::seconds(std::clamp<uint64_t>(seconds, 1, 3600));
  if (request.back) return request;
  request.changes = TRY(parse_changes(*TRY(sys::get_array(body, "changes"))));
  return request;
}

Result<sys::JsonObject> roll_over(Services& services, VmId vm, const RolloverRequest& request,
                                  Progress& progress) {
  Rollover rollover(services, TRY(services.catalog->vm(vm)), request, progress);
  return request.back ? rollover.back() : rollover.forward();
}

sys::JsonObject to_json(const RolloverRecord& record) {
  return {{"version", 1},
          {"pcr7_before", record.pcr7_before},
          {"pcr7_after", record.pcr7_after},
          {"resealed", record.resealed},
          {"confirmed", record.confirmed},
          {"way_back", record.way_back},
          {"back", to_json(record.back)}};
}

Result<RolloverRecord> parse_rollover_record(std::string_view text) {
  sys::JsonObject json = TRY(sys::parse_json_object(text));
  return RolloverRecord{.pcr7_before = TRY(sys::get_string(json, "pcr7_before")),
                        .pcr7_after = TRY(sys::get_string(json, "pcr7_after")),
                        .resealed = TRY(sys::get_bool(json, "resealed")),
                        .confirmed = TRY(sys::get_bool(json, "confirmed")),
                        .way_back = *TRY(sys::get_object(json, "way_back")),
                        .back = TRY(parse_changes(*TRY(sys::get_array(json, "back"))))};
}

}  // namespace hf::daemon
