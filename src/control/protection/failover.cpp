// Unplanned failover: this site runs the VM from the newest state it received.
#include "control/attest/attestation.h"
#include "control/core/log.h"
#include "control/host/console.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// On the way to running vCPUs in under 3 s a dead source may cost this much.
constexpr Millis kReachSource = 700ms;
constexpr Millis kSourceStops = 30s;
constexpr Millis kPreviewAsks = 1500ms;
constexpr Millis kTurnLimit = 5s;
// Of a boot; firmware that does not hand over gets its verdict after a minute.
constexpr std::chrono::seconds kVerdict = 180s;

int64_t ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begin).count();
}

// The verdict of the boot that began after `since`, into the job's result.
Status await_verdict(Services& services, const VmRow& row, AttestationNeed need, Micros since,
                     sys::JsonObject& result, Progress& progress) {
  progress.step("wait for the verdict of the boot");
  Result<attestation::VerdictRecord> verdict =
      services.attestation->wait_verdict(row, since, kVerdict);
  std::string summary;
  if (verdict.ok()) {
    summary = verdict->of.summary;
    result["verdict"] = attestation::name_of(verdict->of.verdict);
    result["attestation"] = attestation::to_json(*verdict);
    if (need == AttestationNeed::kWait || verdict->of.verdict == attestation::Verdict::kHealthy)
      return {};
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

std::string_view words(const PeerService::StopAnswer& answer) {
  switch (answer.answer) {
    case recovery::SourceAnswer::kStopped:
      return answer.shipped
                 ? "the source stopped, and shipped all that it had"
                 : "the source stopped, and has not said that it shipped all that it had";
    case recovery::SourceAnswer::kNoAnswer:
      return "the source does not answer";
    case recovery::SourceAnswer::kSilent:
      return "the source was asked and did not say that it stopped";
    case recovery::SourceAnswer::kRefused:
      return "the source answers and did not stop";
  }
  return "?";
}

Error at_work(const Services& services, VmId vm) {
  const Result<VmRow> row = services.catalog->vm(vm);
  const std::string name = row.ok() ? row->name : vm.hex();
  return {.code = ErrorCode::kConflict,
          .cause = "the replica of VM \"" + name + "\" is being offered or withdrawn just now",
          .effect = "the VM was not failed over",
          .mend = "holdfast vm show " + name + "; then try again"};
}

// The source's answer; `row` is as it is afterwards. A source under an epoch as high as ours tells
// it: then it is asked once more, under a higher one.
Result<PeerService::StopAnswer> ask_source(Services& services, VmRow& row, SiteId source) {
  PeerService::StopAnswer answer =
      services.peers->ask_stop(row.id, source, row.epoch.next(), kReachSource, kSourceStops);
  if (!answer.its_epoch || *answer.its_epoch <= row.epoch) return answer;
  TRY(learn_epoch(services, row.id, *answer.its_epoch, "the source has a higher epoch"));
  row = TRY(services.catalog->vm(row.id));
  return services.peers->ask_stop(row.id, source, row.epoch.next(), kReachSource, kSourceStops);
}

// One that answers is not dead, whatever anybody says.
Error source_refuses(Error error, const VmRow& row, const std::string& source,
                     const std::string& why, bool said_dead) {
  error.cause = "site " + source + " answers and did not stop the VM" +
                (why.empty() ? "" : "; it says: " + why) +
                (said_dead ? "; so it is not dead, as --source-is-dead says" : "");
  error.effect = "the VM may still run at site " + source + "; nothing was changed here";
  error.mend = "at site " + source + ": holdfast vm stop " + row.name +
               " --force; then here: holdfast failover unplanned " + row.name +
               "; if that does not end it, at site " + source +
               ": holdfast site stop --force, and then here with --source-is-dead";
  return error;
}

// What of the VM is promoted, and to what.
struct Promotion {
  VmRow row;
  PeerService::StopAnswer source;
  recovery::RecoveryState next;
  int64_t asked_ms = 0;
};

// Nothing is changed here by it; the source stops the VM for good if the replica can be promoted.
Result<Promotion> prepare(Services& services, const VmRow& row, const ProtectionRow& protection,
                          const FailoverRequest& request, Progress& progress) {
  auto begin = std::chrono::steady_clock::now();
  Promotion promotion{.row = row, .source = {}, .next = {}};
  // A source that cannot be followed is left alone.
  const journal::LineEnd held = TRY(services.protections->replicas().held(row, protection));
  TRY(recovery::may_promote(recovery_state(row, true), held));
  progress.step("ask the source to stop");
  promotion.source = TRY(ask_source(services, promotion.row, protection.peer));
  promotion.asked_ms = ms_since(begin);
  Result<recovery::RecoveryState> next =
      recovery::promote(recovery_state(promotion.row, true), held, promotion.source.answer,
                        request.source_is_dead ? recovery::OperatorWord::kSourceIsDead
                                               : recovery::OperatorWord::kNone);
  if (!next.ok()) {
    Error error = std::move(next).error();
    const std::string source = services.protections->peer_name(protection.peer);
    if (promotion.source.answer == recovery::SourceAnswer::kRefused &&
        error.code != ErrorCode::kLimit)
      return source_refuses(std::move(error), row, source, promotion.source.why,
                            request.source_is_dead);
    if (!promotion.source.why.empty()) error.cause += ": " + promotion.source.why;
    return error;
  }
  promotion.next = *next;
  return promotion;
}

Status has_replica(Services& services, const VmRow& row, const Result<ProtectionRow>& protection) {
  const bool incoming = protection.ok() && protection->direction == Direction::kIn;
  if (row.role == VmRole::kStandby && incoming) return {};
  std::string mend = "holdfast vm show " + row.name;
  if (row.role == VmRole::kActive) mend = "holdfast vm start " + row.name;
  if (row.role != VmRole::kActive && protection.ok()) {
    mend = "at site " + services.protections->peer_name(protection->peer) + ": holdfast vm show " +
           row.name;
  }
  return Error{.code = ErrorCode::kConflict,
               .cause = "this site has no replica of VM \"" + row.name +
                        "\" to fail over to: its role here is " + std::string(to_string(row.role)),
               .effect = "nothing was changed",
               .mend = std::move(mend)};
}

}  // namespace

// What an operator has to know before he says yes. Nothing is changed by it, here or there.
Result<sys::JsonObject> preview_failover(Services& services, const VmRow& row) {
  const Result<ProtectionRow> protection = services.catalog->protection(row.id);
  TRY(has_replica(services, row, protection));
  const SiteId source = protection->peer;
  sys::JsonObject of_source{{"site", services.protections->peer_name(source)}};
  Result<recovery::PeerAnswer> answer =
      services.peers->ask_epoch(row.id, recovery_state(row, true), kPreviewAsks);
  // That it does not know the VM is an answer too.
  of_source["answers"] = answer.ok() || answer.error().code == ErrorCode::kNotFound;
  if (answer.ok()) {
    of_source["role"] = sys::json_word(answer->role);
    of_source["running"] = answer->running;
    of_source["epoch"] = answer->epoch.value;
  } else {
    of_source["error"] = sys::error_to_json(answer.error());
  }
  if (const std::optional<Micros> seen = services.peers->last_seen(source))
    of_source["last_seen_us"] = seen->value;
  const VmRow now = TRY(services.catalog->vm(row.id));  // it may have learned of a higher epoch
  return sys::JsonObject{{"vm", row.name},
                         {"epoch", now.epoch.next().value},
                         {"source", std::move(of_source)},
                         {"replica", TRY(services.protections->show(now))}};
}

Result<sys::JsonObject> fail_over(Services& services, VmId vm, const FailoverRequest& request,
                                  Progress& progress) {
  auto begin = std::chrono::steady_clock::now();
  const Micros begun = catalog_now();
  // From the decision until the VM is this site's, nobody withdraws the replica.
  std::optional<Turns::Turn> turn = services.protections->turns().take(vm, kTurnLimit);
  if (!turn) return at_work(services, vm);
  VmRow row = TRY(services.catalog->vm(vm));
  Result<ProtectionRow> protection = services.catalog->protection(vm);
  TRY(has_replica(services, row, protection));
  TRY(site_stays(services, row));
  Promotion promotion = TRY(prepare(services, row, *protection, request, progress));
  const std::string answer(words(promotion.source));
  TRY(services.catalog->audit(
      request.actor, "failover unplanned", row.name,
      answer + (request.source_is_dead ? "; the operator says it is dead" : "")));

  progress.step("seal the replica and raise the epoch to " +
                std::to_string(promotion.next.epoch.value));
  // A source that stopped has given the VM up: then it is ours, and what fails is mended here. One
  // that did not is still its home, and nothing is promoted that could not be opened.
  if (promotion.source.answer != recovery::SourceAnswer::kStopped)
    TRY(services.protections->replicas().reopen(row, *protection));
  Result<journal::LineEnd> sealed = services.protections->replicas().seal(vm);
  if (!sealed.ok()) {
    // It may have sealed and not said so.
    services.protections->replicas().unseal(vm);
    const bool stopped = promotion.source.answer == recovery::SourceAnswer::kStopped;
    return std::move(sealed)
        .error()
        .with_effect(stopped ? "the VM runs nowhere: its source has stopped it for good"
                             : "the VM was not failed over; the replica takes records again")
        .with_mend("try again: holdfast failover unplanned " + row.name);
  }
  const journal::LineEnd received = *sealed;
  // With the epoch, so that no start from here on can pass over what attestation knows of the VM.
  Status stored = services.catalog->take_over(promotion.row, promotion.next.epoch, protection->peer,
                                              "failed over to this site: " + answer);
  if (!stored.ok()) {
    services.protections->replicas().unseal(vm);
    return std::move(stored).error();
  }
  // From here on this site is the VM's home: what fails below is mended by `vm start`.
  TRY(services.catalog->set_wanted(vm, true));
  turn.reset();
  int64_t promoted_ms = ms_since(begin);
  row = TRY(services.catalog->vm(vm));
  Result<Launched> launched = launch_vm(services, row, {}, progress);
  if (!launched.ok()) {
    return std::move(launched)
        .error()
        .with_effect("the VM is this site's now and does not run")
        .with_mend("holdfast vm start " + row.name);
  }
  int64_t running_ms = ms_since(begin);
  log_info("VM " + row.name + " was failed over to this site under epoch " +
           std::to_string(row.epoch.value) + " in " + std::to_string(running_ms) + " ms");
  services.happened("vm.failed-over", row.name,
                    "was failed over to this site from site " +
                        services.protections->peer_name(protection->peer) + " under epoch " +
                        std::to_string(row.epoch.value) + " in " + std::to_string(running_ms) +
                        " ms: " + answer,
                    progress.by(), Severity::kWarning);
  sys::JsonObject result = TRY(vm_summary(services, row));
  result["source"] = answer;
  result["failover_ms"] = running_ms;
  result["phases_ms"] = sys::JsonObject{{"source_asked", promotion.asked_ms},
                                        {"promoted", promoted_ms},
                                        {"vcpus_running", running_ms}};
  result["source_shipped_all"] =
      promotion.source.answer == recovery::SourceAnswer::kStopped && promotion.source.shipped;
  result["received_sequence"] = received.position.sequence.value;
  result["accelerator"] = launched->accelerator;
  if (request.attestation != AttestationNeed::kNone) {
    TRY(await_verdict(services, row, request.attestation, begun, result, progress));
  }
  return result;
}

}  // namespace hf::control
