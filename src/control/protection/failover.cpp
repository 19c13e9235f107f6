// Unplanned failover: this site runs the VM from the newest state it received.
#include "control/attest/attestation.h"
#include "control/core/log.h"
#include "control/host/console.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// On the way to running vCPUs in under 3 s a dead source may cost this much.
constexpr Millis kReachSource = 700ms;
constexpr Millis kSourceStops = 30s;
constexpr Millis kPreviewAsks = 1500ms;
constexpr Millis kTurnLimit = 5s;
constexpr auto kShowLimit = 2s;
// Of a vault that began to count silence just now, and a little.
constexpr Millis kSilenceLimit = 8s;
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

std::string_view words(recovery::SourceAnswer answer) {
  switch (answer) {
    case recovery::SourceAnswer::kStopped:
      return "the source stopped and handed the VM over";
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

// One that answers is not off, whatever anybody says.
Error source_refuses(Error error, const VmRow& row, const std::string& source,
                     const std::string& why, bool said_off) {
  error.cause = "site " + source + " answers and did not hand the VM over" +
                (why.empty() ? "" : "; it says: " + why) +
                (said_off ? "; so it is not off, as --source-is-off says" : "");
  error.effect = "the VM may still run at site " + source + "; nothing was changed here";
  error.mend = "at site " + source + ": holdfast vm stop " + row.name +
               " --force; then here: holdfast failover unplanned " + row.name +
               "; if that does not end it, at site " + source +
               ": holdfast site stop --force, and then here with --source-is-off";
  return error;
}

// How the VM comes to this site.
struct Taking {
  vault::TitleView title;
  recovery::SourceAnswer answer = recovery::SourceAnswer::kStopped;
  std::optional<SiteId> standby;  // the giver, if it handed the VM over
  journal::LineEnd received;
  int64_t asked_ms = 0;
};

// The replica takes nothing more, and the vault knows where it ends.
Result<journal::LineEnd> seal_and_show(Services& services, VmId vm) {
  const journal::LineEnd sealed = TRY(services.protections->replicas().seal(vm));
  keeper_protocol::Client keeper(services.paths.run_file(vm, "control.sock"));
  TRY(keeper.ask(keeper_protocol::ShowLine{}, kShowLimit));
  return sealed;
}

// Of a VM that this site holds already: whatever a replica's error says of its source is not so.
Result<journal::LineEnd> seal_held(Services& services, VmId vm) {
  Result<journal::LineEnd> sealed = seal_and_show(services, vm);
  if (sealed.ok()) return sealed;
  Error error = std::move(sealed).error();
  error.effect = "this site holds the VM now, and it does not run";
  error.mend = "mend what it names, then give the command again";
  return error;
}

// On the operator's word, from a holder that is silent. Undone if it is not signed.
Status take(Services& services, const VmRow& row, const FailoverRequest& request, Taking& taking,
            Progress& progress) {
  Replicas& replicas = services.protections->replicas();
  Result<journal::LineEnd> sealed = seal_and_show(services, row.id);
  Status signed_it;
  if (sealed.ok()) {
    progress.step(
        "wait until the holder has been silent for 5 s, and sign the VM over to this site");
    TRY(services.titles->ask_members(row.id, kReachSource));
    Result<vault::TitleView> view = services.titles->sign_within(
        row, {.kind = title::Kind::kTake, .subject = {}, .word = request.word}, kSilenceLimit);
    if (view.ok()) {
      taking.title = *std::move(view);
      taking.received = *sealed;
      return {};
    }
    signed_it = std::move(view).error();
  } else {
    signed_it = std::move(sealed).error();
  }
  replicas.unseal(row.id);  // it may have sealed and not said so
  return std::move(signed_it).error().with_effect(
      "the VM was not failed over; the replica takes records again");
}

// The VM is this site's when it returns. On an error it is not, or this site does not know yet that
// it is: the same command again finds out.
Result<Taking> come_to_hold(Services& services, const VmRow& row, const ProtectionRow& protection,
                            const FailoverRequest& request, Progress& progress) {
  auto begin = std::chrono::steady_clock::now();
  Taking taking{.title = TRY(services.vault.title(row.id))};
  // A source that cannot be followed is left alone.
  const journal::LineEnd held = TRY(services.protections->replicas().held(row, protection));
  TRY(recovery::may_promote(recovery_state(row, true), held));
  const SiteId self = services.site.site_id;
  if (holds(taking.title, self)) {  // signed before, and not carried to its end
    taking.standby = taking.title.head->statement().is_standby(protection.peer)
                         ? std::optional(protection.peer)
                         : std::nullopt;
    if (!taking.standby) taking.answer = recovery::SourceAnswer::kNoAnswer;
    taking.received = TRY(seal_held(services, row.id));
    return taking;
  }
  progress.step("ask the source to hand the VM over");
  PeerService::HandOver source =
      services.peers->ask_hand_over(row.id, protection.peer, kReachSource, kSourceStops);
  taking.answer = source.answer;
  taking.asked_ms = ms_since(begin);
  if (source.answer == recovery::SourceAnswer::kStopped) {
    taking.title = TRY(services.titles->learn(row.id, protection.peer, source.title));
    if (!holds(taking.title, self)) {
      return Error{
          .code = ErrorCode::kConflict,
          .cause = "the source says that it handed the VM over, and its vault does not",
          .effect = "the VM was not failed over",
          .mend = "try again; if it stays so: holdfast vm show " + row.name + " at both sites"};
    }
    taking.standby = protection.peer;
    taking.received = TRY(seal_held(services, row.id));
    return taking;
  }
  Result<recovery::RecoveryState> next = recovery::promote(
      recovery_state(row, true), held, source.answer,
      request.source_is_off ? recovery::OperatorWord::kSourceIsOff : recovery::OperatorWord::kNone);
  if (!next.ok()) {
    Error error = std::move(next).error();
    const std::string name = services.protections->peer_name(protection.peer);
    if (source.answer == recovery::SourceAnswer::kRefused && error.code != ErrorCode::kLimit)
      return source_refuses(std::move(error), row, name, source.why, request.source_is_off);
    if (!source.why.empty()) error.cause += ": " + source.why;
    return error;
  }
  // Nothing is promoted that could not be opened.
  TRY(services.protections->replicas().reopen(row, protection));
  TRY(take(services, row, request, taking, progress));
  return taking;
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
  // From the decision until the VM is this site's, nobody withdraws the replica.
  std::optional<Turns::Turn> turn = services.protections->turns().take(vm, kTurnLimit);
  if (!turn) return at_work(services, vm);
  VmRow row = TRY(services.catalog->vm(vm));
  Result<ProtectionRow> protection = services.catalog->protection(vm);
  TRY(has_replica(services, row, protection));
  TRY(site_stays(services, row));
  Result<Taking> taken = come_to_hold(services, row, *protection, request, progress);
  if (!taken.ok()) {
    return std::move(taken).error().with_mend("holdfast vm show " + row.name +
                                              "; then try again: holdfast failover unplanned " +
                                              row.name);
  }
  const Taking taking = *std::move(taken);
  const std::string answer(words(taking.answer));
  TRY(services.catalog->audit(
      request.actor, "failover unplanned", row.name,
      answer + (request.source_is_off ? "; the operator says it is off" : "")));
  row = TRY(services.catalog->vm(vm));
  std::optional<ProtectionRow> next;
  if (taking.standby) {
    next = *protection;
    next->direction = Direction::kOut;
    next->created = catalog_now();
    next->state = ProtectionState::kStands;
  }
  // With the epoch, so that no start from here on can pass over what attestation knows of the VM.
  TRY(services.catalog->take_over(row, taking.title.head->statement().epoch, protection->peer,
                                  "failed over to this site: " + answer, next));
  // What fails below is mended by `vm start`.
  TRY(services.catalog->set_wanted(vm, true));
  turn.reset();
  int64_t promoted_ms = ms_since(begin);
  row = TRY(services.catalog->vm(vm));
  TRY(services.titles->ask_members(vm, kReachSource));
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
  result["phases_ms"] = sys::JsonObject{
      {"source_asked", taking.asked_ms}, {"promoted", promoted_ms}, {"vcpus_running", running_ms}};
  result["source_shipped_all"] = taking.standby.has_value();
  result["protected_by"] = nullptr;
  if (taking.standby) {
    services.protections->turned(vm, *taking.standby);
    result["protected_by"] = services.protections->peer_name(*taking.standby);
  }
  result["received_sequence"] = taking.received.position.sequence.value;
  result["accelerator"] = launched->accelerator;
  if (request.attestation != AttestationNeed::kNone) {
    TRY(await_verdict(services, row, request.attestation, begun, result, progress));
  }
  return result;
}

}  // namespace hf::control
