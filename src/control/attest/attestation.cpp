#include "control/attest/attestation.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/base64.h"
#include "control/attest/attestation_inner.h"
#include "control/attest/verdict_claims.h"
#include "control/core/log.h"
#include "control/host/boot_files.h"
#include "control/secure_boot/rollover.h"
#include "control/store/catalog_inner.h"
#include "sys/bounded_io.h"
#include "vm/definition.h"

namespace hf::control {

using namespace std::chrono_literals;

using attestation::BootHead;
using attestation::BootWatch;
using attestation::parse_boot_head;
using attestation::Trigger;
using attestation::Verdict;
using attestation::VerdictFacts;
using attestation::VerdictRecord;

namespace {
// For another's work on the same VM; all of it is bounded.
constexpr auto kTurnLimit = 15s;
}  // namespace

Attestation::Attestation(Services& services) : services_(services), verdicts_(*services.catalog) {}

Attestation::~Attestation() { stop(); }

// ---- One VM ----

Attestation::Locks& Attestation::locks(VmId vm) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Locks>& of_vm = locks_[vm];
  if (of_vm == nullptr) of_vm = std::make_unique<Locks>();
  return *of_vm;
}

Result<GuestLog> Attestation::Watched::read_log() {
  std::unique_lock alone(asking, kTurnLimit);
  if (!alone) {
    return Error{.code = ErrorCode::kUnavailable, .cause = "others ask the guest's agent"};
  }
  GuestLog got{.boot = TRY(read_boot_id(control)), .bytes = {}};
  hypervisor::GuestAgent client(agent, kAgentLimit);
  auto ask_this = [this](hypervisor::GuestAgent* whom) {
    std::lock_guard lock(mutex);
    if (stopping && whom != nullptr) whom->cancel();
    asked = whom;
  };
  ask_this(&client);
  Result<Bytes> bytes = read_guest_log(client);
  ask_this(nullptr);
  got.bytes = TRY(std::move(bytes));
  return got;
}

Result<std::unique_lock<std::timed_mutex>> Attestation::Watched::turn() {
  std::unique_lock lock(busy, kTurnLimit);
  if (lock) return lock;
  return Error{.code = ErrorCode::kUnavailable,
               .cause = "VM \"" + row.name + "\" is being appraised, and that takes long",
               .effect = "nothing was checked",
               .mend = "ask again in a moment: its keeper or the vault may be away"};
}

// ---- Watching ----

std::shared_ptr<Attestation::Watched> Attestation::find(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = watched_.find(vm);
  return found == watched_.end() ? nullptr : found->second;
}

struct Attestation::Known {
  std::string boot;       // the newest that left a verdict
  Micros seen;            // when the present one began, at the earliest
  std::string appraised;  // the newest that has its verdict
};

void Attestation::vm_started(const VmRow& row) { watch(row, {.seen = catalog_now()}); }

void Attestation::vm_runs_on(const VmRow& row) {
  Known known;
  Result<VerdictBook::History> history = verdicts_.history(row.id);
  if (history.ok()) {
    const std::vector<VerdictFacts>& verdicts = **history;
    if (!verdicts.empty()) known.boot = verdicts.front().boot;
    auto whole = std::ranges::find_if(verdicts, attestation::is_boots_verdict);
    if (whole != verdicts.end()) known.appraised = whole->boot;
  }
  watch(row, known);
  // The earlier holdfastd may have ended between catalog and journal.
  if (std::shared_ptr<Watched> watched = find(row.id)) watched->travel_due = true;
}

void Attestation::watch(const VmRow& row, const Known& known) {
  Result<vm::Definition> definition = vm::parse_definition(row.definition);
  if (!definition.ok() || !definition->vtpm) return;
  vm_stopped(row.id);
  auto watched = std::make_shared<Watched>();
  watched->row = row;
  watched->control = services_.paths.run_file(row.id, "control.sock");
  if (definition->guest_agent) watched->agent = services_.paths.run_file(row.id, "qga.sock");
  watched->appraised_boot = known.appraised;
  watched->boot = known.boot;
  watched->boot_seen = known.seen;
  watched->watch.emplace(!watched->agent.empty());
  watched->watch->adopt(watched->appraised_boot);
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  watched->watcher = watchers_.add([this, watched] { return step(*watched); });
  watched_[row.id] = watched;
}

void Attestation::vm_stopped(VmId vm) {
  verdicts_.forget(vm);
  std::shared_ptr<Watched> watched;
  {
    std::lock_guard lock(mutex_);
    auto found = watched_.find(vm);
    if (found == watched_.end()) return;
    watched = std::move(found->second);
    watched_.erase(found);
  }
  watched->end();
  watchers_.remove(watched->watcher);  // a step that asks its keeper may take seconds more
}

void Attestation::stop() {
  std::map<VmId, std::shared_ptr<Watched>> all;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    verdict_kept_.notify_all();
    all.swap(watched_);
  }
  for (const auto& [vm, watched] : all) watched->end();
  watchers_.stop();
}

namespace {

// Beyond what a keeper was told to wait: then it hangs.
constexpr auto kAnswerLate = 5s;
constexpr auto kAskLimit = 1s;

}  // namespace

// The keeper is asked for the boot as it is; then, unless something is due soon, to answer when it
// has become another. Nobody is awake meanwhile.
Watchers::Next Attestation::step(Watched& watched) {
  auto now = std::chrono::steady_clock::now();
  Result<BootHead> head = ask_head(watched);
  if (!head.ok()) {
    watched.question.reset();
    watched.extends_seen = 0;
    // A keeper that restarts is back in a moment.
    if (head.error().code == ErrorCode::kUnavailable || head.error().code == ErrorCode::kTimeout)
      return {.due = now + BootWatch::kPollRunning};
    log_error("VM " + watched.row.name + " cannot be attested: " + head.error().describe());
    return {.over = true};
  }
  take_head(watched, *head);
  return ask_for_change(watched);
}

Result<BootHead> Attestation::ask_head(Watched& watched) {
  auto question = std::exchange(watched.question, std::nullopt);
  // Without an answer the step was woken for something else, or the keeper has had its time.
  if (question && TRY(sys::wait_ready(question->fd(), POLLIN, 0ms)))
    return parse_boot_head(TRY(question->take(kAskLimit)));
  const keeper_protocol::Client keeper(watched.control);
  return parse_boot_head(
      TRY(keeper.ask(keeper_protocol::Measurements{.from = watched.extends_seen}, kAskLimit)));
}

void Attestation::take_head(Watched& watched, const BootHead& head) {
  watched.extends_seen = head.total;
  watched.saw(head.boot, catalog_now());
  follow_disk(watched, head);
  BootWatch& watch = *watched.watch;
  BootWatch::Act due = watch.take(head, std::chrono::steady_clock::now());
  if (due == BootWatch::Act::kAskAgent) {
    if (act(watched, due, watch)) watch.agent_done();
  } else if (due != BootWatch::Act::kNothing) {
    if (!act(watched, due, watch)) watch.again(std::chrono::steady_clock::now());
  }
  if (watched.travel_due) travel(watched.row);
}

Watchers::Next Attestation::ask_for_change(Watched& watched) {
  auto now = std::chrono::steady_clock::now();
  if (watched.disk_ticket) return {.due = now + BootWatch::kPollBooting};
  // Whatever a keeper answers, and however soon: so often it is asked, not more.
  const auto not_before = watched.asked_at + BootWatch::kPollBooting;
  if (now < not_before) return {.due = not_before};
  watched.asked_at = now;
  std::chrono::milliseconds quiet = watched.watch->quiet_for(now);
  const bool disk_unread = watched.disk_boot != watched.watch->boot();
  if (watched.travel_due || disk_unread) quiet = std::min(quiet, BootWatch::kPollRunning);
  const keeper_protocol::Client keeper(watched.control);
  auto question =
      keeper.begin(keeper_protocol::Measurements{.from = watched.extends_seen,
                                                 .boot = watched.watch->heard_boot(),
                                                 .handed_over = watched.watch->heard_hand_over(),
                                                 .wait_ms = static_cast<uint64_t>(quiet.count())},
                   kAskLimit);
  if (!question.ok()) return {.due = now + BootWatch::kPollRunning};
  watched.question = std::move(question).value();
  return {.fd = watched.question->fd(), .due = now + quiet + kAnswerLate};
}

// As each boot begins the keeper reads what the disk boots, so that the words for its digests are
// there when the verdict is due. A large disk, or a boot that is quicker, gets them by a second
// one.
void Attestation::follow_disk(Watched& watched, const BootHead& head) {
  auto keeper_away = [](const Error& error) {
    return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout;
  };
  if (!head.boot.empty() && head.boot != watched.disk_boot) {
    Result<uint64_t> ticket = ask_boot_files(watched.control);
    if (ticket.ok()) watched.disk_ticket = *ticket;
    if (ticket.ok() || !keeper_away(ticket.error())) watched.disk_boot = head.boot;
    return;
  }
  if (!watched.disk_ticket) return;
  Result<std::optional<BootFiles>> found = take_boot_files(watched.control, *watched.disk_ticket);
  if (!found.ok()) {
    if (keeper_away(found.error())) return;
    if (found.error().code == ErrorCode::kConflict) watched.disk_boot.clear();  // a new keeper
    watched.disk_ticket.reset();
    log_info("VM " + watched.row.name + ": boot files not read: " + found.error().cause);
    return;
  }
  if (!*found) return;
  watched.disk_ticket.reset();
  Result<bool> changed = keep_disk_knowledge(watched.row.id, (*found)->knowledge);
  if (!changed.ok()) return log_error(changed.error().describe());
  // Of an earlier boot, by now: the next reading is asked for in a moment.
  if (!*changed || !head.handed_over || head.boot != watched.disk_boot) return;
  Result<VerdictRecord> checked = check(watched.row, {.trigger = Trigger::kBootFiles});
  if (!checked.ok()) {
    log_warning("VM " + watched.row.name + " was not appraised: " + checked.error().describe());
  }
}

// True: it is other than what was known. A disk on which nothing was found to boot, as one that is
// being written to, takes no words away.
Result<bool> Attestation::keep_disk_knowledge(VmId vm, const attestation::DiskKnowledge& found) {
  if (found.empty()) return false;
  std::string text = attestation::to_text(found);
  if (TRY(services_.catalog->attestation(vm)).explanations == text) return false;
  TRY(services_.catalog->set_attestation(vm, AttestationPart::kExplanations, text));
  return true;
}

// True: done, as far as it ever will be.
//
// What is missing for the boot's verdict is waited for a moment. Then it is judged by what there
// is, once: a guest that keeps its TPM from answering does not keep the boot before in its good
// name.
bool Attestation::act(Watched& watched, BootWatch::Act due, const BootWatch& watch) {
  CheckRequest request;
  const bool enough = watch.waited_enough(std::chrono::steady_clock::now());
  request.need_all = !enough || watched.partial_boot == watch.boot();
  if (due == BootWatch::Act::kAppraiseStuck) request.trigger = Trigger::kStuck;
  if (due == BootWatch::Act::kAppraiseBoot) request.trigger = Trigger::kBoot;
  if (due == BootWatch::Act::kAskAgent) {
    Result<GuestLog> log = watched.read_log();
    if (!log.ok()) return log.error().code != ErrorCode::kUnavailable;
    request.trigger = Trigger::kGuestLog;
    request.log = *std::move(log);
    request.need_all = false;
  }
  Result<VerdictRecord> checked = check(watched.row, request);
  if (checked.ok()) {
    watched.last_refusal.clear();
    if (due == BootWatch::Act::kAskAgent)
      finish_rollover_if_due(services_, watched.row, checked->of);
    if (due == BootWatch::Act::kAskAgent || !checked->of.partial) return true;
    watched.partial_boot = watch.boot();
    return false;
  }
  // A guest may keep it so for days.
  if (std::exchange(watched.last_refusal, checked.error().cause) != checked.error().cause) {
    log_warning("VM " + watched.row.name + " was not appraised: " + checked.error().describe());
  }
  return false;
}

// ---- What is known ----

Result<std::optional<Verdict>> Attestation::verdict_now(const VmRow& row) {
  if (!TRY(vm::parse_definition(row.definition)).vtpm) return std::optional<Verdict>();
  const VerdictBook::History verdicts = TRY(verdicts_.history(row.id));
  std::shared_ptr<Watched> watched = find(row.id);
  const bool past = !kept_from_before(row).empty() || (!verdicts->empty() && watched != nullptr &&
                                                       watched->is_past(verdicts->front()));
  return std::optional(verdicts->empty() || past ? Verdict::kUnknown : verdicts->front().verdict);
}

Result<sys::JsonObject> Attestation::show(const VmRow& row) {
  vm::Definition definition = TRY(vm::parse_definition(row.definition));
  const VerdictBook::History history = TRY(verdicts_.history(row.id));
  sys::JsonObject view{{"vm", row.name},
                       {"vm_id", row.id.hex()},
                       {"watched", find(row.id) != nullptr},
                       {"running", services_.units->running(qemu_unit(row.id))}};
  if (!definition.vtpm) view["note"] = "the VM has no vTPM: nothing measures its boots";
  view["policy"] = attestation::policy_id(TRY(stored_policy(row.id)));
  attestation::Baseline baseline = TRY(stored_baseline(row.id));
  view["baseline"] =
      sys::JsonObject{{"boots", baseline.boots.size()}, {"planned", baseline.planned.size()}};
  if (!baseline.boots.empty()) {
    view["baseline"].as_object()["learned_us"] = baseline.boots.back().learned.value;
  }
  std::string identity = TRY(services_.catalog->attestation(row.id)).identity;
  if (!identity.empty()) {
    AttestationIdentity key = TRY(parse_identity(identity));
    view["key"] = sys::JsonObject{{"ak_name", to_hex(key.ak_name)},
                                  {"certified_by", key.certified_by.hex()},
                                  {"certificate", key.certificate}};
  }
  TRY(show_verdicts(row, *history, view));
  return view;
}

Status Attestation::show_verdicts(const VmRow& row, const std::vector<VerdictFacts>& verdicts,
                                  sys::JsonObject& view) {
  sys::JsonArray history;
  for (const VerdictFacts& old : verdicts) history.push_back(attestation::to_json(old));
  view["history"] = std::move(history);
  view["verdict"] = attestation::name_of(Verdict::kUnknown);
  const std::string before = kept_from_before(row);
  if (!before.empty()) view["note"] = before;
  if (verdicts.empty()) return {};
  const VerdictFacts& newest = verdicts.front();
  VerdictRecord record = TRY(verdicts_.record(row.id, *newest.id));
  std::shared_ptr<Watched> watched = find(row.id);
  if (!before.empty()) {
    record.token.reset();
  } else if (watched != nullptr && watched->is_past(newest)) {
    // What an earlier boot was is nothing to rely on: neither its verdict nor its token.
    view["note"] =
        "the present boot was not appraised yet; what is shown is of the last boot that was, and "
        "that was " +
        std::string(attestation::name_of(newest.verdict));
    record.token.reset();
  } else {
    view["verdict"] = attestation::name_of(newest.verdict);
    view["since_us"] = attestation::unchanged_since(verdicts).value;
  }
  view["newest"] = attestation::to_json(record);
  return {};
}

Result<VerdictRecord> Attestation::wait_verdict(const VmRow& row, Micros since,
                                                std::chrono::seconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  std::unique_lock lock(mutex_);
  VerdictBook::History verdicts;
  while (!stopping_) {
    verdicts = TRY(verdicts_.history(row.id));
    if (const VerdictFacts* answer = attestation::answer_to_start(*verdicts, since, row.epoch))
      return verdicts_.record(row.id, *answer->id);
    if (verdict_kept_.wait_until(lock, end) == std::cv_status::timeout) break;
  }
  if (verdicts != nullptr) {
    if (const VerdictFacts* answer = attestation::answer_at_limit(*verdicts, since))
      return verdicts_.record(row.id, *answer->id);
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = "there was no verdict of the VM's boot within " +
                        std::to_string(limit.count()) + " seconds",
               .effect = "it is not known whether the VM started as it should",
               .mend = "holdfast attest show " + row.name};
}

void Attestation::event(const VmRow& row, Severity severity, std::string kind, std::string text) {
  Result<uint64_t> kept = services_.catalog->add_event({.time = catalog_now(),
                                                        .severity = severity,
                                                        .kind = std::move(kind),
                                                        .subject = row.name,
                                                        .text = text});
  if (!kept.ok()) log_error(kept.error().describe());
  (severity == Severity::kInfo ? log_info : log_warning)("VM " + row.name + ": " + text);
}

// ---- Tokens ----

Result<sys::JsonObject> Attestation::keys() {
  return sys::parse_json_object(TRY(services_.vault.attestation_keys()));
}

Result<std::string> Attestation::sign(const attestation::Ear& ear) {
  return services_.vault.attestation_sign(claims_of(ear));
}

}  // namespace hf::control
