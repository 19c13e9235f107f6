// The way back from a roll-over.
#include "crypto/crypto.h"
#include "daemon/catalog_inner.h"
#include "daemon/rollover_inner.h"
#include "daemon/secure_boot_vm.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {
constexpr uint64_t kWeekUs = uint64_t{7} * 86400 * 1'000'000;
}

// Going back must not take away what came after the roll-over by another hand, such as newer
// entries of dbx.
Status Rollover::as_rolled(const RolloverRecord& record) {
  if (record.made.empty()) return {};
  attestation::KeyVariables now = key_variables(
      TRY(variables_of(TRY(ask_vm_keeper(services_, row_, {{"op", "secure_boot"}}, progress_)))));
  for (const secure_boot::Change& change : record.back) {
    const std::string digest = digest_in(now, change.variable);
    auto made = record.made.find(change.variable);
    if (made == record.made.end() || digest == made->second) continue;
    const bool back_already = digest == (change.action == secure_boot::ChangeAction::kDelete
                                             ? std::string()
                                             : crypto::sha256(change.data).hex());
    if (back_already) continue;
    return Error{.code = ErrorCode::kConflict,
                 .cause = change.variable +
                          " was changed after the roll-over, by the guest or by "
                          "hand: going back would lose that",
                 .effect = "nothing was changed",
                 .mend = "change it by holdfast secure-boot rollover " + row_.name +
                         " --to PROFILE or --update FILE; the whole store as it was: stop the VM, "
                         "then holdfast secure-boot restore " +
                         row_.name + " " + std::string(kRolloverSaved)};
  }
  return {};
}

// What going back will measure, and the guest ready for it. The value from before counts only where
// no guest can be asked: shim's state may have changed since.
Result<Rollover::WayBack> Rollover::plan_back(RolloverRecord& record) {
  WayBack way{.change = TRY(attestation::planned_change_from(record.way_back))};
  const bool open = record.opens_under_both() || request_.without_reseal;
  if (!running()) {
    if (open) return way;
    return not_running();
  }
  progress_.step("predict what the keys of before will measure");
  Result<KeyPlan> plan = services_.attestation->plan_keys(row_, record.back);
  if (!plan.ok() && plan.error().code == ErrorCode::kExists) return std::move(plan).error();
  // A VM that does not come up with its keys shows nothing to predict from, and asks nobody.
  way.force_off = plan.ok() && !plan->handed_over;
  if (!plan.ok() || way.force_off) {
    if (open) return way;
    if (!plan.ok()) return std::move(plan).error();
    return nothing_changed(not_running(), "with the disk's recovery key at hand, --without-reseal");
  }
  way.change = plan->change;
  way.change.why = "the roll-over of the Secure Boot keys is taken back";
  if (request_.without_reseal) return way;
  if (!plan->certain && !record.opens_under_both()) return a_guess();
  TRY(can_start_again());
  if (record.opens_under_both() && plan->pcr7_then == record.pcr7_before) return way;
  progress_.step("ask the guest to reseal for PCR 7 " + plan->pcr7_then.substr(0, 16) + "…");
  TRY(reseal({"present", plan->pcr7_then}, kAgentWithin));
  record.pcr7_before = plan->pcr7_then;
  record.resealed = true;
  record.confirmed = false;
  TRY(keep(record));
  return way;
}

Result<sys::JsonObject> Rollover::back() {
  RolloverRecord record = TRY(kept());
  TRY(as_rolled(record));
  const bool was_running = running();
  Result<WayBack> way = plan_back(record);
  if (!way.ok() && way.error().code == ErrorCode::kExists) {  // a way back that was broken off
    sys::JsonObject checked =
        TRY(services_.attestation->check(row_, {.ask_guest = true, .actor = request_.actor}));
    return finish_back(record, VerdictRow{.verdict = TRY(sys::get_string(checked, "verdict")),
                                          .record = sys::to_text(checked)});
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
  return finish_back(record, start());
}

Result<sys::JsonObject> Rollover::finish_back(const RolloverRecord& record,
                                              const Result<VerdictRow>& verdict) {
  if (!verdict.ok()) {
    Error error = verdict.error();
    error.effect = "the keys are those of before, and the VM is not known to have started";
    error.mend = "holdfast attest show " + row_.name;
    return error;
  }
  sys::JsonObject seen = TRY(sys::parse_json_object(verdict->record));
  if (verdict->verdict != "Healthy") {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "with the keys of before the VM's boot is " + verdict->verdict + ": " +
                          TRY(sys::get_string_or(seen, "summary", "")),
                 .effect =
                     "the keys are those of before; the guest was not asked to give the other "
                     "value up",
                 .mend = "holdfast attest baseline diff " + row_.name +
                         " says what differs; then --back again"};
  }
  RolloverRecord turned = record;
  std::swap(turned.pcr7_before, turned.pcr7_after);
  sys::JsonObject result = outcome(turned, verdict->verdict);
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

}  // namespace hf::daemon
