// One appraisal: gather, judge, keep, tell.
#include <algorithm>
#include <set>
#include <utility>

#include "crypto/crypto.h"
#include "daemon/attestation_inner.h"
#include "daemon/catalog_inner.h"
#include "daemon/log.h"
#include "daemon/vm_definition.h"

namespace hf::daemon {

using attestation::Appraisal;
using attestation::Verdict;

namespace {

constexpr size_t kOwnNonceSize = 32;
constexpr uint64_t kTokenLifeUs = uint64_t{24} * 3600 * 1'000'000;

Bytes own_nonce() {
  Bytes nonce(kOwnNonceSize);
  crypto::SystemRng().fill(nonce);
  return nonce;
}

// What the verdict rests on, a line each.
sys::JsonArray compared_words(const attestation::AppraisalInput& input) {
  sys::JsonArray lines;
  auto add = [&lines](std::string line) { lines.emplace_back(std::move(line)); };
  add("the keeper's record of " + std::to_string(input.record->extends.size()) +
      " extends since the TPM was powered on");
  if (input.log != nullptr) {
    add("the guest's event log of " + std::to_string(input.log->events().size()) + " events");
  } else {
    add("no event log from the guest");
  }
  if (input.quote != nullptr) {
    add("a quote of PCR 0-9 and 11-15 (sha256) by the VM's attestation key " +
        to_hex(input.quote->ak_name).substr(0, 16) + "…");
  } else {
    add("no quote");
  }
  add("Secure Boot variables from the VM's store");
  if (input.baseline != nullptr) {
    add("a baseline of " + std::to_string(input.baseline->boots.size()) + " accepted boot(s)");
  } else {
    add("no baseline");
  }
  add("policy " + attestation::policy_id(*input.policy));
  return lines;
}

// Firmware that never hands over measures nothing of an operating system: no verdict can be good.
void judge_stuck(Appraisal& appraisal) {
  if (appraisal.verdict == Verdict::kHealthy) appraisal.verdict = Verdict::kUnknown;
  // The appraisal's own words for it say less than is known here.
  std::erase_if(appraisal.reasons,
                [](const attestation::Reason& r) { return r.code == "boot_not_finished"; });
  attestation::Reason reason{
      .severity = attestation::Severity::kUnknown,
      .code = "no_hand_over",
      .words =
          "the firmware did not hand over to an operating system within 60 seconds: it found "
          "none, refused one that is not signed by an allowed key, or waits at a menu",
      .mend =
          "look at the console (holdfast vm console VM); holdfast vm check says which boot "
          "parts the VM's keys allow"};
  auto behind_failures = std::ranges::find_if(appraisal.reasons, [](const attestation::Reason& r) {
    return r.severity != attestation::Severity::kFailure;
  });
  appraisal.reasons.insert(behind_failures, std::move(reason));
}

void say_vault_away(Appraisal& appraisal, const Error& error) {
  for (attestation::Reason& reason : appraisal.reasons) {
    if (reason.code != "key_not_enrolled") continue;
    reason.code = "vault_away";
    reason.words = "the vault could not be asked for the VM's attestation key (" + error.cause +
                   "), so nothing says whose quote it is";
    reason.mend = "nothing, as a rule: the boot is appraised again when the vault is back";
  }
}

std::string text_or_empty(const sys::JsonObject& object, std::string_view name) {
  Result<std::string> text = sys::get_string_or(object, name, "");
  return text.ok() ? *std::move(text) : std::string();
}

// The codes of a record's failures, with the boot that they are of.
std::set<std::string> failures_of(const VerdictRow& verdict) {
  std::set<std::string> codes;
  Result<sys::JsonObject> record = sys::parse_json_object(verdict.record);
  if (!record.ok()) return codes;
  const std::string boot = text_or_empty(*record, "boot");
  Result<const sys::JsonArray*> reasons = sys::get_array(*record, "reasons");
  if (!reasons.ok()) return codes;
  for (const sys::JsonValue& item : **reasons) {
    if (!item.is_object()) continue;
    const sys::JsonObject& reason = item.get_object();
    if (text_or_empty(reason, "severity") != "failure") continue;
    codes.insert(boot + " " + text_or_empty(reason, "code"));
  }
  return codes;
}

// A boot is appraised as often as there is more to see: one alert for each thing that is wrong.
bool told_already(const VerdictRow& before, const VerdictRow& now) {
  return std::ranges::includes(failures_of(before), failures_of(now));
}

}  // namespace

Result<std::shared_ptr<Attestation::Watched>> Attestation::running(const VmRow& row) {
  if (std::shared_ptr<Watched> watched = find(row.id)) return watched;
  Result<VmDefinition> definition = parse_definition(row.definition);
  bool no_tpm = definition.ok() && !definition->vtpm;
  if (!no_tpm && services_.units->running(qemu_unit(row.id))) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = "VM \"" + row.name + "\" is being started or stopped",
                 .effect = "its boot cannot be appraised now",
                 .mend = "ask again in a moment"};
  }
  return Error{.code = ErrorCode::kConflict,
               .cause = "VM \"" + row.name + (no_tpm ? "\" has no vTPM" : "\" does not run"),
               .effect = "its boot cannot be appraised",
               .mend = no_tpm ? "create the VM with a vTPM" : "holdfast vm start " + row.name};
}

// The log of the boot that the record is of, now or from an earlier answer.
void Attestation::take_log(Watched& watched, const CheckRequest& request, Gathered& all) {
  const std::string& boot = all.keeper.record.boot_id;
  if (watched.log_boot != boot) watched.log.clear();
  if (request.log && request.log->boot == boot) {
    watched.log = request.log->bytes;
    watched.log_boot = boot;
  }
  if (watched.log.empty()) return;
  Result<attestation::EventLog> log = attestation::EventLog::parse(watched.log);
  if (log.ok()) {
    all.log = std::move(log).value();
  } else {
    all.log_error = log.error();
  }
}

Result<Attestation::Gathered> Attestation::gather(Watched& watched, const CheckRequest& wanted) {
  const CheckRequest request = asked_guest(watched, wanted);
  Gathered all;
  all.row = TRY(services_.catalog->vm(watched.row.id));
  Result<vault::AttestationPin> pin = services_.vault.attestation_pinned(all.row.id);
  if (!pin.ok() && pin.error().code != ErrorCode::kNotFound) {
    all.vault_away = pin.error();  // which does not say that no key is enrolled
  } else if (!pin.ok()) {
    pin = pinned(all.row, watched.control);
  }
  if (pin.ok()) {
    all.pin = std::move(pin).value();
  } else if (!all.vault_away) {
    log_warning("VM " + all.row.name +
                " has no enrolled attestation key: " + pin.error().describe());
  }
  Bytes nonce = request.nonce.empty() ? own_nonce() : request.nonce;
  // Before the keeper is asked where it is: a running VM writes on, and its own progress would look
  // like state that was rolled back.
  Result<vault::Freshness> fresh = all.vault_away ? Result<vault::Freshness>(Error(*all.vault_away))
                                                  : services_.vault.read_freshness(all.row.id);
  all.keeper = TRY(read_keeper(watched.control, nonce));
  const std::string& boot = all.keeper.record.boot_id;
  take_log(watched, request, all);
  attestation::QuoteExpectation expected{.nonce = nonce};
  if (all.pin) expected.ak_name = ByteSpan(all.pin->ak_name);
  Result<attestation::QuotedPcrs> quote =
      all.keeper.no_quote ? Result<attestation::QuotedPcrs>(*all.keeper.no_quote)
                          : verify_quote(all.keeper.evidence, expected);
  if (quote.ok()) {
    all.quote = std::move(quote).value();
  } else {
    all.quote_error = quote.error();
  }
  AttestationRow stored = TRY(services_.catalog->attestation(all.row.id));
  attestation::DiskKnowledge disk = TRY(attestation::parse_disk_knowledge(stored.explanations));
  all.files = std::move(disk.files);
  all.programs = std::move(disk.programs);
  all.policy = TRY(stored_policy(all.row.id));
  all.baseline = TRY(stored_baseline(all.row.id));
  all.context = {.vm = all.row.id,
                 .site = services_.site.site_id,
                 .epoch = all.keeper.epoch,
                 .incarnation = all.keeper.incarnation,
                 .sequence = all.keeper.durable,
                 .now = catalog_now()};
  if (all.pin) {
    all.context.pinned_ak_name = all.pin->ak_name;
    all.context.ak_certified = true;  // the vault keeps none that a trusted CA did not certify
  }
  if (fresh.ok()) all.context.freshness.durable = fresh->position.sequence;
  if (!stored.identity.empty()) {
    // The clock may stand still or go back over a crash; the count of resets never does.
    const AttestationIdentity known = TRY(parse_identity(stored.identity));
    all.context.freshness.last_seen = attestation::TpmCounters{.reset_count = known.reset_count};
    all.context.freshness.another_boot = !known.boot_id.empty() && known.boot_id != boot;
  }
  return all;
}

// The first boot of a VM that has no baseline: what it measured is what its boots are to be like,
// provided that the policy has nothing against it.
void Attestation::learn_if_first(Watched& watched, Gathered& all, Appraisal& appraisal) {
  if (!all.policy.compares_with_baseline() || all.row.adopt_pending) return;
  const bool first = all.baseline.boots.empty();
  // Learned a moment ago without the guest's log or the disk's files, which add the words.
  const bool more_words = (all.log.has_value() && !watched.learned.log) ||
                          (!all.files.empty() && !watched.learned.files);
  const bool better = all.baseline.boots.size() == 1 && more_words &&
                      all.baseline.boots.front().boot_id == all.keeper.record.boot_id &&
                      appraisal.verdict == Verdict::kHealthy &&
                      watched.learned.boot == all.keeper.record.boot_id;
  if (!first && !better) return;
  if (first) {
    attestation::Policy trial = all.policy;
    trial.baseline = attestation::Need::kOptional;
    attestation::AppraisalInput input = all.input();
    input.policy = &trial;
    if (attestation::appraise(input).verdict != Verdict::kHealthy) return;
  }
  if (!learn(all, first)) return;
  watched.learned = {
      .boot = all.keeper.record.boot_id, .log = all.log.has_value(), .files = !all.files.empty()};
  if (!first) return;
  appraisal = attestation::appraise(all.input());
  appraisal.reasons.push_back(
      {.severity = attestation::Severity::kNote,
       .code = "baseline_learned",
       .words = "the VM had no baseline: what this boot measured is its baseline from now on",
       .mend = "holdfast attest baseline show " + all.row.name});
  event(all.row, Severity::kInfo, "attestation.baseline",
        "the first boot was learned as the baseline");
}

Result<sys::JsonObject> Attestation::check(const VmRow& row, const CheckRequest& request) {
  if (!request.nonce.empty() && (request.nonce.size() < attestation::kNonceMin ||
                                 request.nonce.size() > attestation::kNonceMax)) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a nonce of " + std::to_string(request.nonce.size()) + " bytes",
                 .effect = "nothing was checked",
                 .mend = "give 8 to 64 bytes"};
  }
  std::shared_ptr<Watched> watched = TRY(running(row));
  const CheckRequest asked = asked_guest(*watched, request);
  auto lock = TRY(watched->turn());
  Gathered all = TRY(gather(*watched, asked));
  // Of firmware that has measured nothing yet there is nothing to say either.
  const bool early = request.trigger == Trigger::kDemand && all.keeper.record.extends.empty();
  if (std::optional<Error> missing = all.missing(); missing && (request.need_all || early)) {
    return *missing;
  }
  return appraise_and_keep(*watched, all, asked);
}

// Before the VM's turn is taken: a guest may take long to answer.
CheckRequest Attestation::asked_guest(Watched& watched, CheckRequest request) {
  if (!std::exchange(request.ask_guest, false) || watched.agent.empty()) return request;
  Result<GuestLog> log = watched.read_log();
  if (log.ok()) request.log = *std::move(log);
  return request;
}

Result<sys::JsonObject> Attestation::appraise_and_keep(Watched& watched, Gathered& all,
                                                       const CheckRequest& request) {
  Appraisal appraisal = attestation::appraise(all.input());
  if (all.vault_away) say_vault_away(appraisal, *all.vault_away);
  if (request.trigger == Trigger::kStuck) {
    judge_stuck(appraisal);
  } else {
    learn_if_first(watched, all, appraisal);
  }
  if (appraisal.verdict == Verdict::kHealthy && !appraisal.planned_changes.empty()) {
    Status carried_out = carry_out_planned(all);
    if (!carried_out.ok()) log_error(carried_out.error().describe());
  }
  attestation::Ear ear = attestation::to_ear(appraisal, all.context);
  ear.issued_at = all.context.now;
  ear.expires_at = Micros(all.context.now.value + kTokenLifeUs);
  if (!request.nonce.empty()) ear.nonce = request.nonce;
  ear.evidence_nonce = all.keeper.evidence.nonce;
  Result<std::string> token = sign(ear);
  if (!token.ok()) {
    log_error("VM " + all.row.name + ": no token: " + token.error().describe());
  }
  sys::JsonObject record = attestation::to_json(appraisal);
  record["verdict"] = verdict_text(appraisal.verdict);
  record["summary"] = appraisal.summary();
  record["time_us"] = all.context.now.value;
  record["trigger"] = to_string(request.trigger);
  record["boot"] = all.keeper.record.boot_id;
  if (all.missing()) record["partial"] = true;  // another will follow, if it can be had
  if (all.keeper.record.exited) {
    record["handed_over_us"] = all.keeper.record.exited->value;
    record["after_hand_over_ms"] = (static_cast<int64_t>(catalog_now().value) -
                                    static_cast<int64_t>(all.keeper.record.exited->value)) /
                                   1000;
  }
  record["site"] = services_.site.name;
  record["epoch"] = all.context.epoch.value;
  record["incarnation"] = all.context.incarnation.hex();
  record["sequence"] = all.context.sequence.value;
  record["role"] = attestation::to_string(all.context.role);
  record["freshness"] = ear.vm.freshness;
  record["compared"] = compared_words(all.input());
  if (token.ok()) record["token"] = *token;
  VerdictRow verdict{.time = all.context.now,
                     .verdict = std::string(verdict_text(appraisal.verdict)),
                     .record = sys::to_text(record)};
  note_change(all.row, verdict, appraisal);
  verdict.id = TRY(services_.catalog->add_verdict(all.row.id, verdict));
  record["id"] = verdict.id;
  // An older state does not become the measure by being looked at twice: that takes accept_boot().
  const bool older = std::ranges::any_of(appraisal.reasons, [](const attestation::Reason& reason) {
    return reason.code == "tpm_went_back" || reason.code == "state_rolled_back";
  });
  if (all.pin && !older) remember_identity(all.row, *all.pin, all);
  {
    std::lock_guard lock(mutex_);
    verdict_kept_.notify_all();
  }
  travel(all.row);
  return record;
}

// The VM's boot becomes its baseline. False: it could not be, or somebody else was quicker.
bool Attestation::learn(Gathered& all, bool first) {
  Result<attestation::BaselineBoot> boot = all.learned();
  if (!boot.ok()) {
    log_warning("VM " + all.row.name + ": its boot was not learned: " + boot.error().describe());
    return false;
  }
  Result<attestation::Baseline> learned =
      change_baseline(all.row.id, [&](attestation::Baseline& baseline) -> Status {
        const bool as_seen =
            first ? baseline.boots.empty()
                  : baseline.boots.size() == 1 && baseline.boots.front().boot_id == boot->boot_id;
        if (!as_seen) {
          return Error{.code = ErrorCode::kConflict,
                       .cause = "a baseline was accepted while the boot was appraised",
                       .effect = "the boot was not learned",
                       .mend = "holdfast attest check " + all.row.name};
        }
        attestation::accept(baseline, *std::move(boot), attestation::AcceptMode::kReplace);
        return {};
      });
  if (!learned.ok()) {
    log_error("VM " + all.row.name + ": " + learned.error().describe());
    return false;
  }
  all.baseline = *std::move(learned);
  return true;
}

Status Attestation::carry_out_planned(Gathered& all) {
  all.baseline = TRY(change_baseline(all.row.id, [&](attestation::Baseline& baseline) -> Status {
    all.baseline = baseline;  // as it is now
    return attestation::consume(baseline, TRY(all.match()), TRY(all.learned()));
  }));
  event(all.row, Severity::kInfo, "attestation.baseline",
        "a planned change came; the boot is the baseline now");
  return {};
}

void Attestation::note_change(const VmRow& row, const VerdictRow& verdict,
                              const Appraisal& appraisal) {
  Result<std::vector<VerdictRow>> before = services_.catalog->verdicts(row.id, 1);
  bool same = before.ok() && !before->empty() && before->front().verdict == verdict.verdict;
  if (same && (appraisal.verdict != Verdict::kUnhealthy || told_already(before->front(), verdict)))
    return;
  std::string kind = "attestation." + verdict.verdict;
  std::ranges::transform(kind, kind.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  Severity severity = appraisal.verdict == Verdict::kUnhealthy ? Severity::kAlert
                      : appraisal.verdict == Verdict::kUnknown ? Severity::kWarning
                                                               : Severity::kInfo;
  event(row, severity, kind, appraisal.summary());
}

Result<sys::JsonObject> Attestation::evidence(const VmRow& row, ByteSpan nonce) {
  std::shared_ptr<Watched> watched = TRY(running(row));
  const CheckRequest request =
      asked_guest(*watched, {.nonce = Bytes(nonce.begin(), nonce.end()), .ask_guest = true});
  auto lock = TRY(watched->turn());
  Gathered all = TRY(gather(*watched, request));
  if (all.keeper.no_quote) return Error(*all.keeper.no_quote).context("there is no quote");
  attestation::Evidence evidence = all.keeper.evidence;
  evidence.vm = row.id;
  if (all.pin) evidence.ak_certificate = all.pin->certificate_pem;
  if (all.log) evidence.event_log = watched->log;
  evidence.extends = attestation::to_json(all.keeper.record);
  return attestation::to_json(evidence);
}

}  // namespace hf::daemon
