// Policies and baselines: what a VM's boots must be like.
#include "control/attest/attestation_inner.h"
#include "control/core/log.h"
#include "control/store/catalog_inner.h"

namespace hf::control {

namespace {

sys::JsonObject difference_json(const attestation::Difference& difference) {
  using Kind = attestation::Difference::Kind;
  sys::JsonObject json{
      {"kind", difference.kind == Kind::kChanged ? "changed"
               : difference.kind == Kind::kAdded ? "added"
                                                 : "missing"},
      {"weight", difference.weight == attestation::Weight::kFailure ? "failure" : "note"},
      {"pcr", difference.pcr},
      {"nth", difference.nth},
      {"was", difference.was},
      {"is", difference.is},
      {"code", difference.code},
      {"words", difference.words}};
  if (difference.event) json["event"] = *difference.event;
  if (difference.extend) json["extend"] = *difference.extend;
  return json;
}

}  // namespace

Result<sys::JsonObject> Attestation::show_policy(const VmRow& row) {
  attestation::Policy policy = TRY(stored_policy(row.id));
  bool standard = TRY(services_.catalog->attestation(row.id)).policy.empty();
  return sys::JsonObject{{"policy", attestation::to_json(policy)},
                         {"id", attestation::policy_id(policy)},
                         {"default", standard}};
}

Result<sys::JsonObject> Attestation::set_policy(const VmRow& row, const sys::JsonObject& policy,
                                                const std::string& actor) {
  std::string text;
  if (!policy.empty()) {
    // A name alone is one of those that are built in.
    attestation::Policy parsed =
        policy.size() == 1 && sys::has_member(policy, "built_in")
            ? TRY(attestation::built_in_policy(TRY(sys::get_string(policy, "built_in"))))
            : TRY(attestation::policy_from(policy));
    text = sys::to_text(attestation::to_json(parsed));
  }
  TRY(services_.catalog->set_attestation(row.id, AttestationPart::kPolicy, text));
  std::string id = attestation::policy_id(TRY(stored_policy(row.id)));
  TRY(services_.catalog->audit(actor, "attestation policy", row.name, id));
  event(row, Severity::kInfo, "attestation.policy", "the policy is " + id + " now");
  travel(row);
  return show_policy(row);
}

Result<sys::JsonObject> Attestation::show_baseline(const VmRow& row) {
  attestation::Baseline baseline = TRY(stored_baseline(row.id));
  sys::JsonObject view{{"vm", row.name}, {"baseline", attestation::to_json(baseline)}};
  if (baseline.boots.empty()) view["note"] = "no baseline: the next boot is learned";
  return view;
}

Result<sys::JsonObject> Attestation::diff_baseline(const VmRow& row) {
  std::shared_ptr<Watched> watched = TRY(running(row));
  const CheckRequest request = asked_guest(*watched, {.ask_guest = true});
  auto lock = TRY(watched->turn());
  Gathered all = TRY(gather(*watched, request));
  if (all.baseline.boots.empty()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" has no baseline",
                 .effect = "there is nothing to compare with",
                 .mend = "holdfast attest baseline learn " + row.name};
  }
  attestation::BaselineMatch match = TRY(all.match());
  sys::JsonArray differences;
  for (const attestation::Difference& difference : match.differences) {
    differences.push_back(difference_json(difference));
  }
  sys::JsonArray planned;
  for (const std::string& id : match.planned) planned.emplace_back(id);
  return sys::JsonObject{{"vm", row.name},
                         {"agrees", match.agrees()},
                         {"boot", match.boot},
                         {"planned", std::move(planned)},
                         {"differences", std::move(differences)}};
}

Result<sys::JsonObject> Attestation::accept_boot(const VmRow& row, attestation::AcceptMode mode,
                                                 const std::string& actor) {
  if (find(row.id) == nullptr && mode == attestation::AcceptMode::kReplace) {
    if (services_.units->running(qemu_unit(row.id))) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "VM \"" + row.name + "\" runs, but its boot cannot be looked at now",
                   .effect = "the baseline is as it was",
                   .mend = "try again in a moment, or once the VM is stopped"};
    }
    TRY(services_.catalog->audit(actor, "attestation baseline forgotten", row.name, row.id.hex()));
    {
      std::lock_guard lock(locks(row.id).baseline);
      TRY(services_.catalog->set_attestation(row.id, AttestationPart::kBaseline, ""));
    }
    TRY(services_.catalog->end_adoption(row.id));  // the operator's word stands for what came
    event(row, Severity::kInfo, "attestation.baseline",
          "the baseline was given up; the next boot is learned");
    return show_baseline(row);
  }
  std::shared_ptr<Watched> watched = TRY(running(row));
  const CheckRequest request = asked_guest(*watched, {.ask_guest = true});
  {
    auto lock = TRY(watched->turn());
    Gathered all = TRY(gather(*watched, request));
    // Only what a whole and consistent boot shows may become the rule.
    if (all.quote_error) return Error(*all.quote_error).context("the boot was not accepted");
    if (all.log_error) return Error(*all.log_error).context("the boot was not accepted");
    TRY(change_baseline(row.id, [&](attestation::Baseline& baseline) -> Status {
      attestation::accept(baseline, TRY(all.learned()), mode);
      return services_.catalog->audit(actor, "attestation baseline accepted", row.name,
                                      all.keeper.record.boot_id);
    }));
    // The operator's word is for the state that this boot is of, too.
    if (all.pin) remember_identity(row, *all.pin, all);
    event(row, Severity::kInfo, "attestation.baseline",
          mode == attestation::AcceptMode::kReplace ? "the present boot is the baseline now"
                                                    : "the present boot was added to the baseline");
  }
  TRY(check(row, {.log = request.log, .actor = actor}));
  return show_baseline(row);
}

Result<sys::JsonObject> Attestation::announce(const VmRow& row, attestation::PlannedChange change,
                                              const std::string& actor) {
  std::string why = change.why;
  std::string id;
  TRY(change_baseline(row.id, [&](attestation::Baseline& baseline) -> Status {
    id = TRY(attestation::announce(baseline, std::move(change), catalog_now()));
    return services_.catalog->audit(actor, "attestation change announced", row.name,
                                    id + ": " + why);
  }));
  event(row, Severity::kInfo, "attestation.announced", "a change was announced: " + why);
  travel(row);
  return sys::JsonObject{{"vm", row.name}, {"change", id}};
}

Status Attestation::withdraw(const VmRow& row, const std::string& change,
                             const std::string& actor) {
  TRY(change_baseline(row.id, [&](attestation::Baseline& baseline) -> Status {
    TRY(attestation::withdraw(baseline, change));
    return services_.catalog->audit(actor, "attestation change withdrawn", row.name, change);
  }));
  travel(row);
  return {};
}

}  // namespace hf::control
