// Unplanned failover: this site runs the VM from the newest state it received.
#include "daemon/attestation.h"
#include "daemon/catalog_inner.h"
#include "daemon/console.h"
#include "daemon/log.h"
#include "daemon/peer_service.h"
#include "daemon/protections.h"
#include "daemon/recovery_rules.h"
#include "daemon/vm_operations.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

// On the way to running vCPUs in under 3 s a dead source may cost this much.
constexpr Millis kReachSource = 700ms;
constexpr Millis kSourceStops = 30s;
// Of a boot; firmware that does not hand over gets its verdict after a minute.
constexpr std::chrono::seconds kVerdict = 180s;

int64_t ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begin).count();
}

// The verdict of the boot that began after `since`, into the job's result.
Status await_verdict(Services& services, const VmRow& row, AttestationNeed need, Micros since,
                     sys::JsonObject& result, Progress& progress) {
  progress.step("wait for the verdict of the boot");
  Result<VerdictRow> verdict = services.attestation->wait_verdict(row, since, kVerdict);
  std::string summary;
  if (verdict.ok()) {
    sys::JsonObject record = TRY(sys::parse_json_object(verdict->record));
    summary = TRY(sys::get_string_or(record, "summary", ""));
    result["verdict"] = verdict->verdict;
    result["attestation"] = std::move(record);
    if (need == AttestationNeed::kWait || verdict->verdict == "Healthy") return {};
  } else {
    summary = verdict.error().cause;
    result["verdict"] = "Unknown";
    result["attestation_error"] = sys::error_to_json(verdict.error());
    if (need == AttestationNeed::kWait) return {};
  }
  progress.step("stop the VM: its boot is not Healthy");
  TRY(services.catalog->audit("holdfastd", "stopped: --attestation require", row.name, summary));
  TRY(stop_vm(services, row.id, {.force = true}, progress));
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM's boot is not Healthy: " + summary,
               .effect = "the VM is this site's now and was stopped again",
               .mend = "holdfast attest show " + row.name + " says why; holdfast vm start " +
                       row.name + " runs it all the same"};
}

}  // namespace

Result<sys::JsonObject> fail_over(Services& services, VmId vm, const FailoverRequest& request,
                                  Progress& progress) {
  auto begin = std::chrono::steady_clock::now();
  const Micros begun = catalog_now();
  VmRow row = TRY(services.catalog->vm(vm));
  Result<ProtectionRow> protection = services.catalog->protection(vm);
  if (row.role != VmRole::kStandby || !protection.ok() || protection->direction != Direction::kIn) {
    return Error{
        .code = ErrorCode::kConflict,
        .cause = "this site has no replica of VM \"" + row.name +
                 "\" to fail over to: its role here is " + std::string(to_string(row.role)),
        .effect = "nothing was changed",
        .mend = row.role == VmRole::kActive ? "holdfast vm start " + row.name
                                            : "fail over at the site that holds the replica"};
  }
  recovery::RecoveryState state = recovery_state(row, true);
  progress.step("ask the source to stop");
  PeerService::StopAnswer source = services.peers->ask_stop(
      vm, protection->peer, state.epoch.next(), kReachSource, kSourceStops);
  int64_t asked_ms = ms_since(begin);
  recovery::RecoveryState promoted =
      TRY(recovery::promote(state, source.answer,
                            request.source_is_dead ? recovery::OperatorWord::kSourceIsDead
                                                   : recovery::OperatorWord::kNone));
  std::string answer = source.answer == recovery::SourceAnswer::kStopped ? "the source stopped"
                       : source.answer == recovery::SourceAnswer::kRunning
                           ? "the source answers and did not stop"
                           : "the source does not answer";
  TRY(services.catalog->audit(
      request.actor, "failover unplanned", row.name,
      answer + (request.source_is_dead ? "; the operator says it is dead" : "")));

  progress.step("close the replica and raise the epoch to " + std::to_string(promoted.epoch.value));
  ReplicaView received = services.protections->desk().view(vm);
  TRY(services.protections->desk().close(vm, 10s));
  // A source that stopped has given the VM up: then it is ours, and what fails is mended here. One
  // that did not is still its home, and nothing is promoted that could not run.
  Status stored;
  if (source.answer != recovery::SourceAnswer::kStopped) {
    stored = check_replica(services, vm, *protection);
  }
  if (stored.ok()) {
    // With the epoch, so that no start from here on can pass over what attestation knows of the VM.
    stored = services.catalog->take_over(vm, promoted.epoch, "failed over to this site: " + answer);
  }
  if (!stored.ok()) {
    services.protections->desk().reopen(vm);
    return std::move(stored).error();
  }
  // From here on this site is the VM's home: what fails below is mended by `vm start`.
  TRY(services.catalog->remove_protection(vm));
  TRY(services.catalog->set_wanted(vm, true));
  int64_t promoted_ms = ms_since(begin);
  row = TRY(services.catalog->vm(vm));
  Result<Launched> launched = launch_vm(services, row, {.adopt_replica = true}, progress);
  if (!launched.ok()) {
    return std::move(launched)
        .error()
        .with_effect("the VM is this site's now and does not run")
        .with_mend("holdfast vm start " + row.name);
  }
  int64_t running_ms = ms_since(begin);
  log_info("VM " + row.name + " was failed over to this site under epoch " +
           std::to_string(row.epoch.value) + " in " + std::to_string(running_ms) + " ms");
  sys::JsonObject result = TRY(vm_summary(services, row));
  result["source"] = answer;
  result["failover_ms"] = running_ms;
  result["phases_ms"] = sys::JsonObject{
      {"source_asked", asked_ms}, {"promoted", promoted_ms}, {"vcpus_running", running_ms}};
  result["received_sequence"] = received.durable.position.sequence.value;
  result["received_time_us"] = received.durable_time.value;
  result["accelerator"] = launched->accelerator;
  if (request.attestation != AttestationNeed::kNone) {
    TRY(await_verdict(services, row, request.attestation, begun, result, progress));
  }
  return result;
}

}  // namespace hf::daemon
