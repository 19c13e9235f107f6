// The way back from a roll-over.
#include "control/secure_boot/rollover_inner.h"
#include "control/secure_boot/secure_boot_vm.h"
#include "control/store/catalog_inner.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr uint64_t kWeekUs = uint64_t{7} * 86400 * 1'000'000;
}

Status Rollover::as_rolled(const RolloverRecord& record) {
  if (record.made.empty()) return {};
  const attestation::KeyVariables now = attestation::key_variables(TRY(
      variables_of(TRY(ask_vm_keeper(services_, row_, keeper_protocol::SecureBoot{}, progress_)))));
  return attestation::may_go_back(record, now, row_.name, kRolloverSaved);
}

// What going back will measure, and the guest ready for it.
Result<attestation::WayBack> Rollover::plan_back(RolloverRecord& record) {
  attestation::BackSituation situation{.running = running(),
                                       .without_reseal = request_.without_reseal};
  if (situation.running) {
    progress_.step("predict what the keys of before will measure");
    situation.plan = services_.attestation->plan_keys(row_, record.back);
  }
  attestation::WayBack way = TRY(attestation::plan_way_back(record, situation, row_.name));
  if (!way.predicted || request_.without_reseal) return way;
  TRY(can_start_again());
  if (!way.reseal_for) return way;
  progress_.step("ask the guest to reseal for PCR 7 " + way.reseal_for->substr(0, 16) + "…");
  TRY(reseal({"present", *way.reseal_for}, kAgentWithin));
  attestation::take_resealed_back(record, *way.reseal_for);
  TRY(keep(record));
  return way;
}

Result<sys::JsonObject> Rollover::back() {
  RolloverRecord record = TRY(kept());
  TRY(as_rolled(record));
  const bool was_running = running();
  Result<attestation::WayBack> way = plan_back(record);
  if (!way.ok() && way.error().code == ErrorCode::kExists) {  // a way back that was broken off
    return finish_back(record, facts_of(services_.attestation->check(
                                   row_, {.ask_guest = true, .actor = request_.actor})));
  }
  if (!way.ok()) return std::move(way).error();
  TRY(services_.catalog->audit(request_.actor, "secure-boot rollover --back", row_.name, ""));
  way->change.announced = catalog_now();
  way->change.expires = Micros(way->change.announced.value + kWeekUs);
  std::string announced = TRY(announce(way->change));
  if (Status stopped = stop(way->force_off); !stopped.ok()) {
    drop_planned(announced);
    return std::move(stopped).error().with_effect("the keys are as they were");
  }
  // The keys alone: the store as a whole holds what the guest has written since.
  Edit edit = change_keys(record.back, way->change.variables);
  if (edit.outcome != Edit::Outcome::kChanged) {
    return not_edited(std::move(edit), announced, was_running);
  }
  return finish_back(record, facts_of(start()));
}

Result<sys::JsonObject> Rollover::finish_back(const RolloverRecord& record,
                                              const Result<attestation::VerdictFacts>& verdict) {
  if (!verdict.ok()) {
    Error error = verdict.error();
    error.effect = "the keys are those of before, and the VM is not known to have started";
    error.mend = "holdfast attest show " + row_.name;
    return error;
  }
  TRY(attestation::judge_rolled_back(*verdict, row_.name));
  RolloverRecord turned = record;
  std::swap(turned.pcr7_before, turned.pcr7_after);
  sys::JsonObject result = outcome(turned, attestation::name_of(verdict->verdict));
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

}  // namespace hf::control
