#include "control/lifecycle/act.h"

#include <thread>

#include "control/core/log.h"
#include "control/lifecycle/effect_hook.h"
#include "control/lifecycle/launching.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"

namespace hf::control {

using namespace std::chrono_literals;
using lifecycle::Act;
using lifecycle::Effect;
using lifecycle::Trouble;

namespace {

// On the way to running vCPUs in under 3 s a dead source may cost this much.
constexpr Millis kReachSource = 700ms;
constexpr Millis kSourceStops = 20s;  // but for its tail
constexpr Millis kAskLimit = 2s;
constexpr Millis kStartAsks = 3s;
constexpr auto kAgain = 100ms;  // where only time stands in the way
// More effects than any act has: it does not come to rest.
constexpr int kStepsMax = 400;

int64_t ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begin).count();
}

lifecycle::Protected state_of(ProtectionState state) {
  switch (state) {
    case ProtectionState::kOffered:
      return lifecycle::Protected::kOffered;
    case ProtectionState::kStands:
      return lifecycle::Protected::kStands;
    case ProtectionState::kWithdrawing:
      return lifecycle::Protected::kWithdrawing;
  }
  return lifecycle::Protected::kStands;
}

// What an operator reads of a step that takes a while.
std::string_view words(Act act, Effect effect) {
  switch (effect) {
    case Effect::kAskHandOver:
      return "ask the source to hand the VM over";
    case Effect::kSign:
      return act == Act::kTakeOver ? "wait until the holder has been silent for 5 s, and sign the "
                                     "VM over to this site"
                                   : "";
    case Effect::kAskMembers:
      return act == Act::kStart ? "check that this site may run the VM" : "";
    case Effect::kStartKeeper:
      return "start the keeper and release the VM's key to it";
    case Effect::kStartGuest:
      return "start QEMU";
    default:
      return "";
  }
}

}  // namespace

lifecycle::Role role_of(VmRole role) {
  switch (role) {
    case VmRole::kCreating:
      return lifecycle::Role::kCreating;
    case VmRole::kActive:
      return lifecycle::Role::kActive;
    case VmRole::kStandby:
      return lifecycle::Role::kStandby;
    case VmRole::kSuperseded:
      return lifecycle::Role::kSuperseded;
  }
  return lifecycle::Role::kSuperseded;
}

ActRunner::ActRunner(Services& services, VmId vm, lifecycle::Wish wish, ActContext context)
    : services_(services),
      vm_(vm),
      machine_(wish),
      context_(std::move(context)),
      begun_(std::chrono::steady_clock::now()) {}
ActRunner::~ActRunner() = default;

Launching& ActRunner::launching() {
  if (launching_ == nullptr)
    launching_ = std::make_unique<Launching>(services_, row_, context_.launch, *context_.progress);
  return *launching_;
}

Result<ActOutcome> ActRunner::run() {
  outcome_.observed = TRY(observe());
  outcome_.ran = outcome_.observed.units.guest;
  const Act act = machine_.wish().act;
  Step before;
  for (int steps = 0;; ++steps) {
    const Step step = machine_.next(outcome_.observed);
    if (step.what != Step::What::kEffect) {
      outcome_.last = step;
      outcome_.source = machine_.source();
      return std::move(outcome_);
    }
    if (steps == kStepsMax) {
      return Error{.code = ErrorCode::kInternal,
                   .cause = "the act \"" + std::string(to_string(act)) +
                            "\" does not come to an end: " + std::string(to_string(step.effect))};
    }
    const bool again = before.what == Step::What::kEffect && before.effect == step.effect;
    if (context_.progress != nullptr && !again && !words(act, step.effect).empty())
      context_.progress->step(std::string(words(act, step.effect)));
    before = step;
    const Ended ended = carry_out(step);
    machine_.ended(step, ended, outcome_.observed);
    if (ended.trouble == Trouble::kTime && !is_message(step.effect))
      std::this_thread::sleep_for(kAgain);
    outcome_.observed = TRY(observe());
  }
}

Result<lifecycle::Observed> ActRunner::observe() {
  const Act act = machine_.wish().act;
  lifecycle::Observed seen{.self = services_.site.site_id};
  seen.now =
      title::Instant(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                               std::chrono::steady_clock::now().time_since_epoch())
                                               .count()));
  row_ = TRY(services_.catalog->vm(vm_));
  seen.record = {.role = role_of(row_.role),
                 .epoch = row_.epoch,
                 .wanted = row_.wanted_running,
                 .adopt = row_.adopt_pending};
  Result<vault::TitleView> view = services_.vault.title(vm_);
  // A fence goes by the record alone, where nothing else is known.
  const bool needed = act != Act::kFence && act != Act::kFollow;
  if (!view.ok() && needed) return std::move(view).error();
  if (view.ok()) seen.title = {.head = view->head, .rivals = view->rivals};
  head_ = seen.title.head;
  Result<ProtectionRow> protection = services_.catalog->protection(vm_);
  protection_.reset();
  if (protection.ok()) {
    protection_ = *protection;
    seen.protection = {.peer = protection->peer,
                       .way = protection->direction == Direction::kOut ? lifecycle::Way::kOut
                                                                       : lifecycle::Way::kIn,
                       .state = state_of(protection->state)};
    seen.peer_connected =
        services_.peers != nullptr && services_.peers->connected(protection->peer);
    seen.peer_knows = head_ != nullptr && services_.titles != nullptr &&
                      services_.titles->knows(vm_, protection->peer, head_->digest());
    seen.stream = services_.protections->ships(vm_);
  }
  Units& units = *services_.units;
  seen.units = {.guest = units.running(qemu_unit(vm_)),
                .keeper = units.running(keeper_unit(vm_)),
                .replica = units.running(replica_unit(vm_)),
                .unsure = units.in_doubt()};
  if ((act == Act::kTakeOver || act == Act::kFollow) && seen.units.replica) {
    const Result<keeper_protocol::ReplicaStatus> status =
        services_.protections->replicas().status(vm_);
    if (status.ok()) {
      seen.replica = {.sealed = status->sealed,
                      .empty = status->durable.line_end().position.sequence.value == 0};
    }
  }
  return seen;
}

lifecycle::Ended ActRunner::carry_out(const Step& step) {
  Ended ended;
  Status status = as_effect(services_.paths, vm_, machine_.wish().act, step.effect,
                            [&] { return perform(step, ended); });
  if (status.ok()) return ended;
  const ErrorCode code = status.error().code;
  const bool time = code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout;
  // Of another thread that changed the record meanwhile: what it is now decides anew.
  const bool raced =
      is_durable(step.effect) && step.effect != Effect::kSign && code == ErrorCode::kConflict;
  const bool asked_site = is_message(step.effect) && step.effect != Effect::kAskMembers &&
                          step.effect != Effect::kAskHandOver;
  ended.trouble = (time && step.effect == Effect::kSign) || raced || asked_site ||
                          step.effect == Effect::kShipTail || step.effect == Effect::kFindLine
                      ? Trouble::kTime
                      : Trouble::kRefused;
  outcome_.failed = std::move(status).error();
  return ended;
}

Status ActRunner::perform(const Step& step, Ended& ended) {
  if (is_message(step.effect)) return perform_message(step, ended);
  if (step.effect == Effect::kSign) {
    TRY(services_.titles->sign(row_,
                               {.kind = step.kind, .subject = step.site, .word = context_.word}));
    if (step.kind == title::Kind::kStandBy) {
      services_.happened(
          "protection.stands-by", row_.name,
          "site " + services_.protections->peer_name(step.site) + " has all of it, and stands by",
          {});
    }
    return {};
  }
  return is_durable(step.effect) ? perform_store(step) : perform_process(step, ended);
}

// ---- Messages -----------------------------------------------------------------------------------

Status ActRunner::perform_message(const Step& step, Ended& ended) {
  switch (step.effect) {
    case Effect::kExchange: {
      const TitleKeeper::Exchanged asked =
          TRY(services_.titles->exchange(vm_, step.site, kAskLimit));
      ended.whole = asked.answer.whole;
      ended.prepared = asked.answer.prepared;
      theirs_ = asked.answer.line;
      return {};
    }
    case Effect::kAskMembers: {
      // What is signed on a word is so while the question is young (title::kAnswerLife): over a
      // link that swallows what it is given, too.
      const lifecycle::Wish& wish = machine_.wish();
      const bool patient = wish.act == Act::kStart && !wish.without_peer;
      ended.silent = TRY(services_.titles->ask_members(vm_, patient ? kStartAsks : kReachSource));
      outcome_.silent = ended.silent;
      return {};
    }
    case Effect::kAskHandOver:
      return ask_hand_over(step.site, ended);
    default:
      return Error{.code = ErrorCode::kInternal, .cause = "an effect that nobody carries out"};
  }
}

Status ActRunner::ask_hand_over(const SiteId& site, Ended& ended) {
  PeerService::HandOver source = services_.peers->ask_hand_over(
      vm_, site, kReachSource, kSourceStops + context_.tail_limit, context_.tail_limit);
  outcome_.asked_ms = ms_since(begun_);
  outcome_.source_says = source.why;
  ended.source = source.answer;
  if (source.answer == lifecycle::SourceAnswer::kHandedOver) {
    const SiteId self = services_.site.site_id;
    const auto ours = [&](const vault::TitleView& view) { return holds(view, self); };
    TRY(services_.titles->learn_all(vm_, site, source.title, ours, kAskLimit));
  }
  return {};
}

// ---- The record ---------------------------------------------------------------------------------

Status ActRunner::perform_store(const Step& step) {
  switch (step.effect) {
    case Effect::kStoreSuperseded:
      return store_superseded(step.site);
    case Effect::kStoreTaken:
      return store_taken();
    case Effect::kStoreStandby:
      return store_standby(step.site);
    case Effect::kStoreWanted:
      return services_.catalog->set_wanted(vm_, true);
    case Effect::kStoreNotWanted:
      return services_.catalog->set_wanted(vm_, false);
    case Effect::kStoreProtected:
      TRY(store_protection(step.site, ProtectionState::kStands));
      services_.protections->turned(vm_, step.site);
      return {};
    default:
      return Error{.code = ErrorCode::kInternal, .cause = "an edit that nobody makes"};
  }
}

Status ActRunner::store_superseded(const SiteId& holder) {
  const title::Statement& title = head_->statement();
  const std::string note =
      std::string(title.kind == title::Kind::kHandOver ? "handed over to site "
                  : title.kind == title::Kind::kGiveUp ? "given up to site "
                                                       : "taken over by site ") +
      services_.protections->peer_name(holder);
  TRY(services_.catalog->change_role(row_, VmRole::kSuperseded, std::max(row_.epoch, title.epoch),
                                     note));
  log_warning("VM " + row_.name + " is not this site's any more: " + note);
  // A hand-over is told by who signed it, and knows for whom.
  if (title.issuer != services_.site.site_id) {
    services_.happened("vm.superseded", row_.name, "is not this site's any more: " + note, {},
                       Severity::kWarning);
  }
  return {};
}

// With the epoch, so that no start from here on can pass over what attestation knows of the VM.
Status ActRunner::store_taken() {
  const ProtectionRow before = *protection_;
  const bool handed = head_->statement().is_standby(before.peer);
  const std::string how =
      handed ? "the source stopped and handed the VM over" : "the source does not answer";
  TRY(services_.catalog->audit(
      context_.actor, "failover unplanned", row_.name,
      how + (machine_.wish().source_is_off ? "; the operator says it is off" : "")));
  std::optional<ProtectionRow> next;
  if (handed) {
    next = before;
    next->direction = Direction::kOut;
    next->created = catalog_now();
    next->state = ProtectionState::kStands;
  }
  TRY(services_.catalog->take_over(row_, head_->statement().epoch, before.peer,
                                   "failed over to this site: " + how, next));
  outcome_.taken_ms = ms_since(begun_);
  if (context_.turn != nullptr) context_.turn->reset();
  services_.titles->look(vm_);  // it is shipped to the giver from now on
  return {};
}

// Its directory goes on as the replica of the holder's line, which it is the beginning of.
Status ActRunner::store_standby(const SiteId& holder) {
  const vault::KeyInfo key = TRY(services_.vault.key_info(vm_));
  TRY(services_.catalog->stand_by(row_, {.vm = vm_,
                                         .peer = holder,
                                         .direction = Direction::kIn,
                                         .journal_public_key = to_hex(key.journal_public_key),
                                         .minted_at = key.minted_at,
                                         .created = catalog_now()}));
  const std::string site = services_.protections->peer_name(holder);
  log_info("this site stands by for VM " + row_.name + " of site " + site);
  services_.happened("protection.stands-by", row_.name,
                     "this site stands by for it, which site " + site + " holds", {});
  return {};
}

Status ActRunner::store_protection(const SiteId& peer, ProtectionState state) {
  if (!protection_ || protection_->peer != peer)
    return Error{.code = ErrorCode::kConflict, .cause = "the VM is protected otherwise by now"};
  ProtectionRow next = *protection_;
  next.state = state;
  return services_.catalog->put_protection(next);
}

Status fence_by_title(Services& services, VmId vm) {
  Result<ActOutcome> done = ActRunner(services, vm, {.act = Act::kFence}).run();
  if (!done.ok()) {
    if (done.error().code == ErrorCode::kNotFound) return {};  // being made, or deleted
    return std::move(done).error();
  }
  if (done->last.what == lifecycle::Step::What::kRefused && done->failed) return *done->failed;
  return {};
}

}  // namespace hf::control
