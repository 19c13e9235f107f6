// One appraisal: gather, judge, keep, tell.
#include <utility>

#include "control/attest/attestation_inner.h"
#include "control/core/log.h"
#include "control/store/catalog_inner.h"
#include "crypto/crypto.h"
#include "vm/definition.h"

namespace hf::control {

using attestation::Appraisal;
using attestation::Learning;
using attestation::Trigger;
using attestation::VerdictFacts;
using attestation::VerdictRecord;

namespace {

constexpr size_t kOwnNonceSize = 32;
constexpr uint64_t kTokenLifeUs = uint64_t{24} * 3600 * 1'000'000;

Bytes own_nonce() {
  Bytes nonce(kOwnNonceSize);
  crypto::SystemRng().fill(nonce);
  return nonce;
}

}  // namespace

Result<std::shared_ptr<Attestation::Watched>> Attestation::running(const VmRow& row) {
  if (std::shared_ptr<Watched> watched = find(row.id)) return watched;
  Result<vm::Definition> definition = vm::parse_definition(row.definition);
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

// The first boot of a VM that has no baseline: what it measured is what its boots are to be like.
void Attestation::learn_if_first(Watched& watched, Gathered& all, Appraisal& appraisal) {
  if (all.row.adopt_pending) return;
  const std::string& boot = all.keeper.record.boot_id;
  const Learning due = attestation::learning_due(all.input(), appraisal, boot, watched.learned);
  if (due == Learning::kNo || !learn(all, due)) return;
  watched.learned = {.boot = boot, .log = all.log.has_value(), .files = !all.files.empty()};
  if (due != Learning::kFirst) return;
  appraisal = attestation::appraise(all.input());
  appraisal.reasons.push_back(attestation::baseline_learned(all.row.name));
  event(all.row, Severity::kInfo, "attestation.baseline",
        "the first boot was learned as the baseline");
}

Result<VerdictRecord> Attestation::check(const VmRow& row, const CheckRequest& request) {
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

Result<VerdictRecord> Attestation::appraise_and_keep(Watched& watched, Gathered& all,
                                                     const CheckRequest& request) {
  Appraisal appraisal = attestation::appraise(all.input());
  if (all.vault_away) attestation::say_vault_away(appraisal, *all.vault_away);
  if (request.trigger == Trigger::kStuck) {
    attestation::judge_stuck(appraisal);
  } else {
    learn_if_first(watched, all, appraisal);
  }
  if (attestation::carries_out_planned(appraisal)) {
    Status carried_out = carry_out_planned(all);
    if (!carried_out.ok()) log_error(carried_out.error().describe());
  }
  VerdictRecord record = attestation::record_of(appraisal, all.input(), facts_of(all, request));
  Result<std::string> token = token_of(appraisal, all, request.nonce);
  if (token.ok()) {
    record.token = *std::move(token);
  } else {
    log_error("VM " + all.row.name + ": no token: " + token.error().describe());
  }
  note_change(all.row, record.of);
  record.of.id = TRY(verdicts_.add(all.row.id, record));
  if (all.pin && !attestation::shows_older_state(appraisal)) {
    remember_identity(all.row, *all.pin, all);  // else it takes accept_boot()
  }
  {
    std::lock_guard lock(mutex_);
    verdict_kept_.notify_all();
  }
  travel(all.row);
  return record;
}

VerdictFacts Attestation::facts_of(const Gathered& all, const CheckRequest& request) const {
  VerdictFacts facts{.time = all.context.now,
                     .trigger = request.trigger,
                     .boot = all.keeper.record.boot_id,
                     .partial = all.missing().has_value(),
                     .handed_over = all.keeper.record.exited,
                     .site = services_.site.name};
  if (facts.handed_over) {
    facts.after_hand_over_ms = (static_cast<int64_t>(catalog_now().value) -
                                static_cast<int64_t>(facts.handed_over->value)) /
                               1000;
  }
  return facts;
}

Result<std::string> Attestation::token_of(const Appraisal& appraisal, const Gathered& all,
                                          const Bytes& asked_nonce) {
  attestation::Ear ear = attestation::to_ear(appraisal, all.context);
  ear.issued_at = all.context.now;
  ear.expires_at = Micros(all.context.now.value + kTokenLifeUs);
  if (!asked_nonce.empty()) ear.nonce = asked_nonce;
  ear.evidence_nonce = all.keeper.evidence.nonce;
  return sign(ear);
}

// The VM's boot becomes its baseline. False: it could not be, or somebody else was quicker.
bool Attestation::learn(Gathered& all, Learning learning) {
  Result<attestation::BaselineBoot> boot = all.learned();
  if (!boot.ok()) {
    log_warning("VM " + all.row.name + ": its boot was not learned: " + boot.error().describe());
    return false;
  }
  Result<attestation::Baseline> learned =
      change_baseline(all.row.id, [&](attestation::Baseline& baseline) {
        return attestation::learn_boot(baseline, *std::move(boot), learning, all.row.name);
      });
  if (!learned.ok()) {
    log_error("VM " + all.row.name + ": " + learned.error().describe());
    return false;
  }
  all.baseline = *std::move(learned);
  return true;
}

Status Attestation::carry_out_planned(Gathered& all) {
  const attestation::MeasuredBoot boot = TRY(all.measured());
  all.baseline = TRY(change_baseline(all.row.id, [&](attestation::Baseline& baseline) {
    return attestation::carry_out_planned(baseline, boot, all.input(), all.keeper.record.boot_id);
  }));
  event(all.row, Severity::kInfo, "attestation.baseline",
        "a planned change came; the boot is the baseline now");
  return {};
}

void Attestation::note_change(const VmRow& row, const VerdictFacts& verdict) {
  Result<VerdictBook::History> history = verdicts_.history(row.id);
  const VerdictFacts* before =
      history.ok() && !(*history)->empty() ? &(*history)->front() : nullptr;
  std::optional<attestation::Announcement> told = attestation::worth_telling(before, verdict);
  if (!told) return;
  const Severity severity = told->alarm == attestation::Alarm::kAlert     ? Severity::kAlert
                            : told->alarm == attestation::Alarm::kWarning ? Severity::kWarning
                                                                          : Severity::kInfo;
  event(row, severity, std::move(told->kind), std::move(told->text));
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

}  // namespace hf::control
