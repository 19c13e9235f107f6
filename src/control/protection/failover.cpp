// Unplanned failover: this site runs the VM from the newest state it received.
#include "control/attest/attestation.h"
#include "control/core/log.h"
#include "control/lifecycle/launching.h"
#include "control/lifecycle/words.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

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

Error at_work(const Services& services, VmId vm) {
  const Result<VmRow> row = services.catalog->vm(vm);
  const std::string name = row.ok() ? row->name : vm.hex();
  return {.code = ErrorCode::kConflict,
          .cause = "the replica of VM \"" + name + "\" is being offered or withdrawn just now",
          .effect = "the VM was not failed over",
          .mend = "holdfast vm show " + name + "; then try again"};
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

// It waited for the replica's turn, and whoever had that removed it.
Error withdrawn_meanwhile(Services& services, const VmRow& row, const SiteId& source) {
  const std::string peer = services.protections->peer_name(source);
  return {.code = ErrorCode::kConflict,
          .cause = "the replica of VM \"" + row.name +
                   "\" was removed meanwhile: its protection was ended, or it was evicted here",
          .effect = "the VM was not failed over; it is site " + peer + "'s as before",
          .mend = "at site " + peer + ": holdfast protection enable " + row.name + " --to " +
                  services.site.name + "; then here: holdfast failover unplanned " + row.name};
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
  const vault::TitleView title = TRY(services.vault.title(row.id));
  const title::Statement& newest = title.head->statement();
  // What that site does by itself when it comes back, for as long as it knows nothing newer.
  of_source["waits_for_this_site"] = newest.is_standby(services.site.site_id);
  if (newest.start_after > 0) of_source["starts_alone_after_s"] = newest.start_after;
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
  const Result<VmRow> before = services.catalog->vm(vm);
  const Result<ProtectionRow> protected_by = services.catalog->protection(vm);
  // From the decision until the VM is this site's, nobody withdraws the replica.
  std::optional<Turns::Turn> turn = services.protections->turns().take(vm, kTurnLimit);
  if (!turn) return at_work(services, vm);
  Result<VmRow> known = services.catalog->vm(vm);
  if (!known.ok() && known.error().code == ErrorCode::kNotFound && before.ok() && protected_by.ok())
    return withdrawn_meanwhile(services, *before, protected_by->peer);
  VmRow row = TRY(std::move(known));
  Result<ProtectionRow> protection = services.catalog->protection(vm);
  TRY(has_replica(services, row, protection));
  TRY(site_stays(services, row));
  TRY(check_can_launch(row));
  const std::string source = services.protections->peer_name(protection->peer);
  ActContext context{.word = request.word,
                     .actor = request.actor,
                     .tail_limit = request.wait_for_tail,
                     .progress = &progress,
                     .turn = &turn};
  const ActOutcome done =
      TRY(ActRunner(services, vm,
                    {.act = lifecycle::Act::kTakeOver, .source_is_off = request.source_is_off},
                    std::move(context))
              .run());
  turn.reset();
  if (!done.did(lifecycle::Done::kRuns)) {
    return refused_take_over(row, done, source, request.source_is_off)
        .with_mend("holdfast vm show " + row.name +
                   "; then try again: holdfast failover unplanned " + row.name);
  }
  int64_t running_ms = ms_since(begin);
  row = TRY(services.catalog->vm(vm));
  const bool handed_over = done.observed.title.stands_by(protection->peer);
  const std::string answer(words(handed_over ? lifecycle::SourceAnswer::kHandedOver
                                             : lifecycle::SourceAnswer::kNoAnswer));
  log_info("VM " + row.name + " was failed over to this site under epoch " +
           std::to_string(row.epoch.value) + " in " + std::to_string(running_ms) + " ms");
  services.happened("vm.failed-over", row.name,
                    "was failed over to this site from site " + source + " under epoch " +
                        std::to_string(row.epoch.value) + " in " + std::to_string(running_ms) +
                        " ms: " + answer,
                    progress.by(), Severity::kWarning);
  sys::JsonObject result = TRY(vm_summary(services, row));
  result["source"] = answer;
  result["failover_ms"] = running_ms;
  result["phases_ms"] = sys::JsonObject{
      {"source_asked", done.asked_ms}, {"promoted", done.taken_ms}, {"vcpus_running", running_ms}};
  result["source_shipped_all"] = handed_over;
  result["protected_by"] = handed_over ? sys::JsonValue(source) : sys::JsonValue(nullptr);
  result["received_sequence"] = done.sealed.position.sequence.value;
  result["accelerator"] = done.launched.accelerator;
  if (request.attestation != AttestationNeed::kNone) {
    TRY(await_verdict(services, row, request.attestation, begun, result, progress));
  }
  return result;
}

}  // namespace hf::control
