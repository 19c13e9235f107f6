#include "control/protection/settlements.h"

#include <algorithm>

#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/store/catalog_inner.h"
#include "control/title/title_view.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"
#include "lifecycle/observed.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

using peer::Millis;
using title::Kind;

constexpr Millis kTurnLimit = 5s;
constexpr Millis kFinishTurn = 10s;
constexpr Millis kAskLimit = 3s;
constexpr Millis kReach = 2s;
constexpr Millis kGivesUp = 40s;  // it ends a keeper, which syncs
constexpr size_t kRoundsMax = title::kRivalsMax + 2;

std::string command(const std::string& vm, const std::string& keep) {
  return "holdfast failover settle " + vm + " --keep " + keep;
}

// The give-up that this site's line ended with; null: the newest that it signed is something else,
// and what it has of the VM is the holder's line.
Result<title::SignedPtr> own_give_up(Services& services, VmId vm) {
  title::SignedPtr newest;
  for (const title::SignedPtr& one : TRY(whole_chain(services, vm))) {
    const title::Statement& said = one->statement();
    // What it learned to stand by for since is that line.
    if (said.issuer == services.site.site_id || said.kind == Kind::kHandOver) newest = one;
  }
  if (newest && newest->statement().kind != Kind::kGiveUp) newest = nullptr;
  return newest;
}

std::string aside_name(VmId vm, const title::Signed& give_up) {
  return vm.hex() + "-" + give_up.digest().hex().substr(0, 16);
}

bool gave_up_crosswise(const vault::TitleView& view) {
  return !view.rivals.empty() && view.head->statement().kind == Kind::kGiveUp &&
         view.rivals.front()->statement().kind == Kind::kGiveUp;
}

}  // namespace

// Who holds the VM by the two titles that there are.
struct Settlements::Parties {
  SiteId first;
  SiteId second;
  bool has(SiteId site) const { return site == first || site == second; }
  SiteId other(SiteId than) const { return than == first ? second : first; }
};

// ---- The command --------------------------------------------------------------------------------

// After an exchange with whoever may know more. `over`: `keep` holds it, and there is no conflict.
Result<Settlements::Parties> Settlements::parties(const VmRow& row, SiteId keep, bool& over) {
  const SiteId self = services_.site.site_id;
  vault::TitleView view = TRY(services_.vault.title(row.id));
  std::vector<SiteId> others;
  if (keep != self) others.push_back(keep);
  for (const title::SignedPtr& rival : view.rivals) others.push_back(rival->statement().holder);
  for (const title::Member& member : view.head->statement().members.all())
    others.push_back(member.site);
  others.push_back(view.head->statement().holder);
  std::ranges::sort(others);
  const auto twice = std::ranges::unique(others);
  others.erase(twice.begin(), twice.end());
  for (const SiteId& other : others) {
    if (other == self || other.is_zero()) continue;
    Result<TitleKeeper::Exchanged> asked = services_.titles->exchange(row.id, other, kAskLimit);
    if (asked.ok()) continue;
    log_info("VM " + row.name + ": " + asked.error().describe());
    if (other != keep && view.rivals.empty()) continue;
    return Error(asked.error())
        .context("site " + services_.protections->peer_name(other) + " has to answer")
        .with_effect("the conflict stands as before, and nothing was stopped")
        .with_mend("bring the link to it back (holdfast site peers), then give the command again");
  }
  view = TRY(services_.vault.title(row.id));
  const SiteId holder = view.head->statement().holder;
  over = view.rivals.empty();
  if (!over) return Parties{.first = holder, .second = view.rivals.front()->statement().holder};
  if (holder == keep) return Parties{.first = holder, .second = holder};
  const std::string name =
      holder == self ? services_.site.name : services_.protections->peer_name(holder);
  return Error{.code = ErrorCode::kConflict,
               .cause = "there is no conflict about VM \"" + row.name + "\": site " + name +
                        " holds it, and no other one says that it does",
               .effect = "nothing was changed",
               .mend = holder == self ? "holdfast vm show " + row.name
                                      : "to move it: holdfast failover unplanned " + row.name};
}

Result<sys::JsonObject> Settlements::settle(VmId vm, SiteId keep, const std::string& actor,
                                            Progress& progress) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  const SiteId self = services_.site.site_id;
  const auto name = [&](const SiteId& site) {
    return site == self ? services_.site.name : services_.protections->peer_name(site);
  };
  TRY(services_.catalog->audit(actor, "failover settle", row.name, "keep " + name(keep)));
  for (size_t round = 0; round < kRoundsMax; ++round) {
    progress.step("ask the other site what it knows");
    bool over = false;
    const Parties of = TRY(parties(row, keep, over));
    if (over) {
      services_.titles->look(vm);
      sys::JsonObject result = TRY(vm_summary(services_, row));
      result["kept"] = name(keep);
      result["conflict"] = nullptr;
      return result;
    }
    if (!of.has(keep)) {
      return Error{
          .code = ErrorCode::kInvalidArgument,
          .cause = "site " + name(keep) + " is none of the two that hold VM \"" + row.name + "\"",
          .effect = "nothing was changed",
          .mend = command(row.name, name(of.first)) + ", or --keep " + name(of.second)};
    }
    const SiteId gives_up = of.other(keep);
    if (gives_up != self && keep != self) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "this site is none of the two that hold VM \"" + row.name + "\"",
                   .effect = "nothing was changed",
                   .mend = "at site " + name(keep) + ": " + command(row.name, name(keep))};
    }
    if (gives_up == self) {
      progress.step("stop the guest here, and give the VM up to site " + name(keep));
      TRY(give_up_to(row, keep));
    } else {
      TRY(ask_to_give_up(row, gives_up, progress));
    }
  }
  return Error{.code = ErrorCode::kUnavailable,
               .cause = "there are ever more titles of VM \"" + row.name + "\" beside the other",
               .effect = "the conflict stands",
               .mend = "holdfast vm title " + row.name +
                       " says by whom; then: " + command(row.name, name(keep))};
}

Status Settlements::ask_to_give_up(const VmRow& row, SiteId site, Progress& progress) {
  const std::string name = services_.protections->peer_name(site);
  progress.step("have site " + name + " stop its guest and give the VM up");
  peer::Delivery delivery{.within = kReach};
  Result<HandOverOutcome> outcome =
      services_.peers->ask<HandOverOutcome>(site, SettleOrder{.vm = row.id}, kGivesUp, &delivery);
  if (outcome.ok() && outcome->handed_over) {
    TRY(services_.titles->learn(row.id, site, outcome->title));
    return {};
  }
  Error error{.code = ErrorCode::kConflict,
              .effect = "the conflict stands; what runs goes on",
              .mend = "see to what it says there, then give the command again"};
  if (outcome.ok()) {
    error.cause = "site " + name + " did not give the VM up; it says: " + outcome->why;
    return error;
  }
  error = std::move(outcome).error();
  error.cause = "site " + name + " was asked to give the VM up: " + error.cause;
  error.effect = delivery.unheard ? "it was not reached; the conflict stands as before"
                                  : "whether it has done so is not known";
  error.mend =
      "the same again finds out and finishes it: " + command(row.name, services_.site.name);
  return error;
}

// ---- Giving up ----------------------------------------------------------------------------------

// Everything that could stand in the way but what is stopped for it.
Status Settlements::may_give_up(const VmRow& row, const vault::TitleView& view) {
  if (!services_.units->running(qemu_unit(row.id)) &&
      !services_.units->running(keeper_unit(row.id)))
    return {};  // the signature itself says so
  const vault::TitleSigned judged = TRY(services_.vault.title_propose(
      {.vm = row.id, .about = view.head->digest(), .kind = Kind::kGiveUp}));
  // Its keeper had ended, and its key was taken back, just now: then it is signed.
  if (judged || judged.error().cause == title::Cause::kProcessesAlive) return {};
  return refused_by_title(services_, row, judged.error(), "nothing was stopped");
}

Status Settlements::end_guest(const VmRow& row) {
  services_.protections->end_stream(row.id);
  Reconciler::Turn turn = services_.reconciler->turn_to_finish(row.id, kFinishTurn);
  if (!turn.owns_lock()) {
    return Error{.code = ErrorCode::kTimeout,
                 .cause = "the VM is being ended just now",
                 .effect = "the conflict stands as before",
                 .mend = "try again"};
  }
  // Nothing that was queued before this starts it again.
  TRY(services_.units->kill_guests(row.id));
  return finish_vm_in_turn(services_, row);
}

Status Settlements::give_up_to(const VmRow& row, SiteId to) {
  const std::string other = services_.protections->peer_name(to);
  const std::optional<Turns::Turn> turn = services_.protections->turns().take(row.id, kTurnLimit);
  if (!turn) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" is worked on just now",
                 .effect = "the conflict stands as before, and nothing was stopped",
                 .mend = "holdfast job list; then try again"};
  }
  TitleKeeper::Exchanged asked = TRY(services_.titles->exchange(row.id, to, kAskLimit));
  if (asked.view.rivals.empty()) return {};  // somebody settled it meanwhile
  TRY(may_give_up(row, asked.view));
  if (services_.units->running(qemu_unit(row.id)) || services_.units->running(keeper_unit(row.id)))
    TRY(end_guest(row));
  // Of now: an answer counts for three seconds, and a keeper takes what it takes.
  asked = TRY(services_.titles->exchange(row.id, to, kAskLimit));
  if (asked.view.rivals.empty() && !holds(asked.view, to)) {
    run_again(row.id);  // the other one has given it up meanwhile
    return {};
  }
  if (!asked.view.rivals.empty()) {
    Result<vault::TitleView> given =
        services_.titles->sign(row, {.kind = Kind::kGiveUp, .subject = to});
    if (!given.ok()) {
      Error error = std::move(given).error();
      error.effect = "the VM is stopped at this site, and the conflict stands";
      error.mend = "give the command again: " + command(row.name, other);
      return error;
    }
  }
  TRY(services_.catalog->set_wanted(row.id, false));
  services_.happened("vm.given-up", row.name,
                     "was stopped at this site and given up to site " + other +
                         "; what was written here since the two parted is set aside",
                     {}, Severity::kWarning);
  services_.titles->look(row.id);
  // It has to know at once: nothing else is done about the VM until it does.
  Result<TitleKeeper::Exchanged> knows = services_.titles->exchange(row.id, to, kAskLimit);
  if (!knows.ok()) log_info("VM " + row.name + ": " + knows.error().describe());
  return {};
}

// The same words whether it is another site's VM or none.
Result<HandOverOutcome> Settlements::give_up(VmId vm, const PeerRow& to) {
  const Result<VmRow> row = services_.catalog->vm(vm);
  Result<vault::TitleView> view = services_.vault.title(vm);
  if (!row.ok() || !view.ok() || !ever_named(services_, vm, *view, to.site)) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "this site and site " + to.name + " have no part in one VM",
                 .effect = "nothing was done",
                 .mend = "holdfast vm show at both sites"};
  }
  if (view->rivals.empty()) {
    if (holds(*view, to.site))  // done before, and its answer was lost
      return HandOverOutcome{.handed_over = true, .title = TRY(services_.titles->all(vm))};
    return HandOverOutcome{.why = "there is no conflict about it"};
  }
  services_.peer_log.line(PeerDoes::kOrder, to.site,
                          "VM " + row->name + " is given up to site " + to.name);
  if (Status given = give_up_to(*row, to.site); !given.ok())
    return HandOverOutcome{.why = given.error().cause};
  view = services_.vault.title(vm);
  if (!view.ok() || !view->rivals.empty() || !holds(*view, to.site))
    return HandOverOutcome{.why = "its vault still knows of another title"};
  return HandOverOutcome{.handed_over = true, .title = TRY(services_.titles->all(vm))};
}

// ---- What follows -------------------------------------------------------------------------------

Status Settlements::none(const VmRow& row, std::string effect) {
  vault::TitleView view = TRY(services_.vault.title(row.id));
  while (to_be_joined(view)) view = TRY(services_.titles->sign(row, {.kind = Kind::kJoin}));
  if (view.rivals.empty()) return {};
  const SiteId head = view.head->statement().holder;
  const SiteId rival = view.rivals.front()->statement().holder;
  return refused_by_title(services_, row,
                          {.cause = title::Cause::kRival,
                           .action = title::Action::kSettle,
                           .site = head == services_.site.site_id ? rival : head},
                          std::move(effect));
}

std::string Settlements::conflict(VmId vm) {
  std::lock_guard lock(mutex_);
  const auto found = conflicts_.find(vm);
  return found == conflicts_.end() ? std::string()
                                   : services_.protections->peer_name(found->second);
}

// Once each.
void Settlements::told(const VmRow& row, const vault::TitleView& view) {
  const SiteId self = services_.site.site_id;
  std::optional<SiteId> other;
  if (!view.rivals.empty()) {
    const SiteId head = view.head->statement().holder;
    const SiteId rival = view.rivals.front()->statement().holder;
    if (head != rival) other = head == self ? rival : head;
  }
  bool news = false;
  {
    std::lock_guard lock(mutex_);
    const auto found = conflicts_.find(row.id);
    news = other ? found == conflicts_.end() || found->second != *other : found != conflicts_.end();
    if (other) {
      conflicts_[row.id] = *other;
    } else {
      conflicts_.erase(row.id);
    }
  }
  if (!news) return;
  if (!other) {
    services_.happened("vm.settled", row.name, "is one site's alone again", {});
    return;
  }
  const std::string name = services_.protections->peer_name(*other);
  const std::string text = "two sites were told to run it: this one, and site " + name + "; " +
                           command(row.name, "SITE") + " ends that";
  log_warning("VM " + row.name + ": " + text);
  services_.happened("vm.conflict", row.name, text, {}, Severity::kWarning);
}

Settlements::Follow Settlements::follow(VmId vm) {
  const Result<VmRow> known = services_.catalog->vm(vm);
  const Result<vault::TitleView> title = services_.vault.title(vm);
  if (!known.ok() || known->role == VmRole::kCreating || !title.ok()) return Follow::kNothing;
  const VmRow& row = *known;
  const vault::TitleView& view = *title;
  told(row, view);
  if (to_be_joined(view)) return Follow::kNothing;  // the machine's, which follows
  const SiteId self = services_.site.site_id;
  // What a site gave up is under its own change of holder: the VM's record here follows.
  if (row.role == VmRole::kActive && holds(view, self) &&
      row.epoch < view.head->statement().epoch) {
    // With the turn: a start that is under way goes by the epoch it began with.
    const std::optional<Turns::Turn> turn = services_.protections->turns().take(vm, 0ms);
    if (!turn) return Follow::kLater;
    const Status stored =
        services_.catalog->change_role(row, row.role, view.head->statement().epoch, row.note);
    if (!stored.ok()) log_error(stored.error().describe());
    return Follow::kLater;
  }
  if (gave_up_crosswise(view)) return give_up_again(row, view);
  if (!view.rivals.empty()) return Follow::kDone;
  const title::Statement& head = view.head->statement();
  if (head.holder == self && head.kind == Kind::kGiveUp)
    return row.role == VmRole::kSuperseded ? hold_again(row, view) : protect_by(row, view);
  const bool had = row.role == VmRole::kSuperseded || row.role == VmRole::kActive;
  if (!head.is_standby(self) || !had) return Follow::kNothing;
  const Result<title::SignedPtr> own = own_give_up(services_, row.id);
  if (!own.ok()) {
    log_error(own.error().describe());
    return Follow::kLater;
  }
  if (*own == nullptr) return Follow::kNothing;
  if (row.role == VmRole::kActive) {  // signed, and killed before anything followed
    if (Status fenced = services_.titles->settle(vm); !fenced.ok())
      log_error(fenced.error().describe());
    return Follow::kLater;
  }
  return stand_by_anew(row, view, aside_name(row.id, **own));
}

bool Settlements::to_be_joined(const vault::TitleView& view) const {
  return lifecycle::Title{.head = view.head, .rivals = view.rivals}.to_be_joined_by(
      services_.site.site_id);
}

// Both gave up to the other at once. The first by its id does so again; the other one waits.
Settlements::Follow Settlements::give_up_again(const VmRow& row, const vault::TitleView& view) {
  const SiteId to = view.head->statement().holder;
  const SiteId self = services_.site.site_id;
  if (to == self || view.rivals.front()->statement().holder != self || self > to)
    return Follow::kDone;
  const Status given = give_up_to(row, to);
  if (!given.ok()) log_info("VM " + row.name + ": " + given.error().describe());
  return given.ok() ? Follow::kDone : Follow::kLater;
}

// A guest that was stopped to be given up, of a VM that stays.
void Settlements::run_again(VmId vm) {
  const auto needed = [this, vm] {
    const Result<VmRow> now = services_.catalog->vm(vm);
    return now.ok() && now->role == VmRole::kActive && now->wanted_running &&
           !services_.units->running(qemu_unit(vm));
  };
  services_.reconciler->add({.kind = "vm-start",
                             .vm = vm,
                             .needed = needed,
                             .work = [this, vm, needed](Progress& progress) {
                               if (!needed()) return Result<sys::JsonObject>(sys::JsonObject{});
                               return start_vm(services_, vm, {.actor = "holdfastd"}, progress);
                             }});
}

// It gave the VM up to the one that gave it up again: it is its own, and runs as it did.
Settlements::Follow Settlements::hold_again(const VmRow& row, const vault::TitleView& view) {
  const Epoch epoch = std::max(row.epoch, view.head->statement().epoch);
  Status stored = services_.catalog->change_role(row, VmRole::kActive, epoch,
                                                 "given up by both sites, and kept by this one");
  if (stored.ok()) stored = services_.catalog->set_wanted(row.id, true);
  if (!stored.ok()) {
    log_error(stored.error().describe());
    return Follow::kLater;
  }
  run_again(row.id);
  return Follow::kLater;  // and is protected by the other one
}

// Who gave up to this site stands by from now on, and is seeded.
Settlements::Follow Settlements::protect_by(const VmRow& row, const vault::TitleView& view) {
  const std::optional<Turns::Turn> turn = services_.protections->turns().take(row.id, 0ms);
  if (!turn) return Follow::kLater;
  const SiteId peer = view.head->statement().issuer;
  const Result<ProtectionRow> known = services_.catalog->protection(row.id);
  const bool stands = known.ok() && known->direction == Direction::kOut;
  if (stands)
    services_.protections->look(row.id);  // it was refused for as long as the conflict was
  if (row.role != VmRole::kActive || stands || !view.head->statement().is_standby(peer) ||
      !services_.catalog->peer(peer).ok()) {
    return Follow::kNothing;
  }
  // From now on nothing is merged away that the other one has not.
  if (services_.units->running(keeper_unit(row.id))) {
    keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
    const Result<keeper_protocol::Nothing> told =
        keeper.ask(keeper_protocol::Protect{.peer_site = peer}, 5s);
    if (!told.ok()) {
      log_warning("VM " + row.name + ": " + told.error().describe());
      return Follow::kLater;
    }
  }
  const Result<vault::KeyInfo> key = services_.vault.key_info(row.id);
  Status stored = key.ok() ? services_.catalog->put_protection(
                                 {.vm = row.id,
                                  .peer = peer,
                                  .direction = Direction::kOut,
                                  .journal_public_key = to_hex(key->journal_public_key),
                                  .minted_at = key->minted_at,
                                  .created = catalog_now(),
                                  .state = ProtectionState::kStands})
                           : Status(key.error());
  if (!stored.ok()) {
    log_error(stored.error().describe());
    return Follow::kLater;
  }
  services_.protections->turned(row.id, peer);
  return Follow::kNothing;
}

// What the VM had here is kept beside it, whole, and the replica begins with nothing.
Settlements::Follow Settlements::stand_by_anew(const VmRow& row, const vault::TitleView& view,
                                               const std::string& aside) {
  const VmId vm = row.id;
  const std::optional<Turns::Turn> turn = services_.protections->turns().take(vm, 0ms);
  if (!turn || services_.units->running(qemu_unit(vm)) ||
      services_.units->running(keeper_unit(vm)) || services_.units->in_doubt()) {
    return Follow::kLater;  // it is being ended
  }
  const std::string peer = services_.protections->peer_name(view.head->statement().holder);
  const std::string place = services_.paths.state + "/aside/" + aside;
  const auto work = [&]() -> Status {
    services_.protections->end_stream(vm);
    TRY(services_.protections->replicas().stop(vm));
    TRY(services_.units->set_aside(vm, aside));
    const vault::KeyInfo key = TRY(services_.vault.key_info(vm));
    const ProtectionRow protection{.vm = vm,
                                   .peer = view.head->statement().holder,
                                   .direction = Direction::kIn,
                                   .journal_public_key = to_hex(key.journal_public_key),
                                   .minted_at = key.minted_at,
                                   .created = catalog_now()};
    // First the empty replica, then the record: a kill between finds both by this way again.
    TRY(services_.protections->replicas().create(row, protection));
    TRY(services_.catalog->stand_by(row, protection));
    const VmRow now = TRY(services_.catalog->vm(vm));
    return services_.catalog->change_role(
        now, now.role, now.epoch,
        "given up to site " + peer + "; what it had here is kept in " + place);
  };
  if (Status done = work(); !done.ok()) {
    log_warning("VM " + row.name + ": " + done.error().describe());
    return Follow::kLater;
  }
  services_.happened("protection.stands-by", row.name,
                     "this site stands by for it, which site " + peer +
                         " holds, and is seeded anew; what it had here is kept in " + place,
                     {}, Severity::kWarning);
  return Follow::kDone;
}

}  // namespace hf::control
