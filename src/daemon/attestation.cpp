#include "daemon/attestation.h"

#include <algorithm>
#include <utility>

#include "base/base64.h"
#include "daemon/attestation_inner.h"
#include "daemon/boot_files.h"
#include "daemon/catalog_inner.h"
#include "daemon/keeper_client.h"
#include "daemon/log.h"
#include "daemon/rollover.h"
#include "daemon/version.h"
#include "daemon/vm_definition.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {
// For another's work on the same VM; all of it is bounded.
constexpr auto kTurnLimit = 15s;
}  // namespace

std::string_view to_string(Trigger trigger) {
  switch (trigger) {
    case Trigger::kBoot:
      return "boot";
    case Trigger::kStuck:
      return kStuckTrigger;
    case Trigger::kGuestLog:
      return "guest's log";
    case Trigger::kBootFiles:
      return "boot files";
    case Trigger::kDemand:
      return "on demand";
  }
  return "?";
}

Attestation::Attestation(Services& services) : services_(services) {}

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
  Result<std::vector<VerdictRow>> verdicts = services_.catalog->verdicts(row.id);
  if (verdicts.ok() && !verdicts->empty()) known.boot = boot_of(verdicts->front());
  if (verdicts.ok()) {
    auto whole = std::ranges::find_if(*verdicts, is_boots_verdict);
    if (whole != verdicts->end()) known.appraised = boot_of(*whole);
  }
  watch(row, known);
  // The earlier holdfastd may have ended between catalog and journal.
  if (std::shared_ptr<Watched> watched = find(row.id)) watched->travel_due = true;
}

void Attestation::watch(const VmRow& row, const Known& known) {
  Result<VmDefinition> definition = parse_definition(row.definition);
  if (!definition.ok() || !definition->vtpm) return;
  vm_stopped(row.id);
  auto watched = std::make_shared<Watched>();
  watched->row = row;
  watched->control = services_.paths.run_file(row.id, "control.sock");
  if (definition->guest_agent) watched->agent = services_.paths.run_file(row.id, "qga.sock");
  watched->appraised_boot = known.appraised;
  watched->boot = known.boot;
  watched->boot_seen = known.seen;
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  watched->thread = std::thread([this, watched] { run(*watched); });
  watched_[row.id] = watched;
}

void Attestation::vm_stopped(VmId vm) {
  std::lock_guard lock(mutex_);
  // Threads that have ended are joined in passing; one that asks its keeper may take seconds.
  std::erase_if(retired_, [](const std::shared_ptr<Watched>& old) {
    if (old.use_count() > 1) return false;
    old->thread.join();
    return true;
  });
  auto found = watched_.find(vm);
  if (found == watched_.end()) return;
  found->second->end();
  retired_.push_back(std::move(found->second));
  watched_.erase(found);
}

void Attestation::stop() {
  std::vector<std::shared_ptr<Watched>> all;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    verdict_kept_.notify_all();
    all.swap(retired_);
    for (auto& [vm, watched] : watched_) all.push_back(watched);
    watched_.clear();
  }
  for (const auto& watched : all) watched->end();
  for (const auto& watched : all) watched->thread.join();
}

void Attestation::run(Watched& watched) {
  BootWatch watch(!watched.agent.empty());
  watch.adopt(watched.appraised_boot);
  uint64_t seen = 0;
  std::chrono::milliseconds pause = BootWatch::kPollBooting;
  while (watched.wait(pause)) {
    pause = BootWatch::kPollRunning;
    Result<sys::JsonObject> answer =
        ask_keeper(watched.control, {{"op", "measurements"}, {"from", seen}}, 1s);
    if (!answer.ok()) {
      seen = 0;
      // A keeper that restarts is back in a moment; an older one will never know the question.
      if (answer.error().code != ErrorCode::kInvalidArgument) continue;
      log_warning("VM " + watched.row.name + " cannot be attested: " + answer.error().cause);
      return;
    }
    Result<BootHead> head = parse_boot_head(*answer);
    if (!head.ok()) {
      log_error("VM " + watched.row.name + " cannot be attested: " + head.error().describe());
      return;
    }
    seen = head->total;
    watched.saw(head->boot, catalog_now());
    follow_disk(watched, *head);
    BootWatch::Act due = watch.take(*head, std::chrono::steady_clock::now());
    if (due == BootWatch::Act::kAskAgent) {
      if (act(watched, due, watch)) watch.agent_done();
    } else if (due != BootWatch::Act::kNothing) {
      if (!act(watched, due, watch)) watch.again(std::chrono::steady_clock::now());
    }
    if (watched.travel_due) travel(watched.row);
    pause = watched.disk_ticket ? BootWatch::kPollBooting : watch.poll_after();
  }
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
  Result<sys::JsonObject> checked = check(watched.row, {.trigger = Trigger::kBootFiles});
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
  Result<sys::JsonObject> checked = check(watched.row, request);
  if (checked.ok()) {
    watched.last_refusal.clear();
    if (due == BootWatch::Act::kAskAgent) finish_rollover_if_due(services_, watched.row, *checked);
    if (due == BootWatch::Act::kAskAgent || !sys::has_member(*checked, "partial")) return true;
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

namespace {

sys::JsonObject history_entry(const VerdictRow& row) {
  sys::JsonObject entry{{"id", row.id}, {"time_us", row.time.value}, {"verdict", row.verdict}};
  Result<sys::JsonObject> record = sys::parse_json_object(row.record);
  if (!record.ok()) return entry;
  for (std::string_view name :
       {"trigger", "summary", "boot", "epoch", "site", "after_hand_over_ms"}) {
    if (const sys::JsonValue* value = record->if_contains(name)) entry[name] = *value;
  }
  return entry;
}

}  // namespace

Result<std::optional<std::string>> Attestation::verdict_now(const VmRow& row) {
  if (!TRY(parse_definition(row.definition)).vtpm) return std::optional<std::string>();
  std::vector<VerdictRow> newest = TRY(services_.catalog->verdicts(row.id, 1));
  std::shared_ptr<Watched> watched = find(row.id);
  const bool past = !newest.empty() && watched != nullptr && watched->is_past(newest.front());
  return std::optional<std::string>(newest.empty() || past ? "Unknown" : newest.front().verdict);
}

Result<sys::JsonObject> Attestation::show(const VmRow& row) {
  VmDefinition definition = TRY(parse_definition(row.definition));
  std::vector<VerdictRow> verdicts = TRY(services_.catalog->verdicts(row.id));
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
  view["verdict"] = verdicts.empty() ? "Unknown" : verdicts.front().verdict;
  if (!verdicts.empty()) {
    Micros since = verdicts.front().time;
    for (const VerdictRow& old : verdicts) {
      if (old.verdict != verdicts.front().verdict) break;
      since = old.time;
    }
    sys::JsonObject newest = TRY(sys::parse_json_object(verdicts.front().record));
    std::shared_ptr<Watched> watched = find(row.id);
    if (watched != nullptr && watched->is_past(verdicts.front())) {
      // What an earlier boot was is nothing to rely on: neither its verdict nor its token.
      view["verdict"] = "Unknown";
      view["note"] =
          "the present boot was not appraised yet; what is shown is of the last boot that "
          "was, and that was " +
          verdicts.front().verdict;
      newest.erase("token");
    } else {
      view["since_us"] = since.value;
    }
    view["newest"] = std::move(newest);
  }
  sys::JsonArray history;
  for (const VerdictRow& old : verdicts) history.push_back(history_entry(old));
  view["history"] = std::move(history);
  return view;
}

Result<VerdictRow> Attestation::wait_verdict(const VmRow& row, Micros since,
                                             std::chrono::seconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  std::unique_lock lock(mutex_);
  std::vector<VerdictRow> verdicts;
  while (!stopping_) {
    verdicts = TRY(services_.catalog->verdicts(row.id));
    // Not the newest of all: somebody may have asked for one before the boot was through.
    auto answer = std::ranges::find_if(verdicts, [&](const VerdictRow& verdict) {
      return answers_start(verdict, since, row.epoch);
    });
    if (answer != verdicts.end()) return *answer;
    if (verdict_kept_.wait_until(lock, end) == std::cv_status::timeout) break;
  }
  // Less than was asked for says more than nothing, and is not Healthy.
  if (!verdicts.empty() && verdicts.front().time > since && verdicts.front().verdict != "Healthy") {
    return verdicts.front();
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

Result<std::string> Attestation::sign(attestation::Ear& ear) {
  std::unique_lock lock(mutex_);
  std::string kid = token_kid_;
  lock.unlock();
  if (kid.empty()) {
    sys::JsonObject set = TRY(keys());
    const sys::JsonArray* list = TRY(sys::get_array(set, "keys"));
    if (list->empty() || !list->front().is_object()) {
      return Error{.code = ErrorCode::kUnavailable, .cause = "the vault has no attestation key"};
    }
    kid = TRY(sys::get_string(list->front().get_object(), "kid"));
    lock.lock();
    token_kid_ = kid;
    lock.unlock();
  }
  ear.verifier_developer = attestation::kEarDeveloper;
  ear.verifier_build = "holdfast " HOLDFAST_VERSION;
  ear.vm.site = services_.site.site_id;
  return attestation::issue_ear(ear, kid, [this](ByteSpan input) -> Result<Bytes> {
    return services_.vault.attestation_sign(as_text(input));
  });
}

}  // namespace hf::daemon
