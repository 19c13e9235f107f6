#include "control/title/titles.h"

#include <algorithm>

#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/store/catalog_inner.h"
#include "control/vm/reconciler.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kRounds = 6;  // of an exchange: a site that always knows something new is no use
constexpr auto kShowLimit = 2s;
constexpr auto kPeerLimit = 3s;

std::vector<Digest> known_of(const vault::TitleView& view) {
  std::vector<Digest> known;
  if (view.head != nullptr) known.push_back(view.head->digest());
  for (const title::SignedPtr& rival : view.rivals) known.push_back(rival->digest());
  return known;
}

bool knows_all(const std::vector<Digest>& theirs, const std::vector<Digest>& mine) {
  return std::ranges::all_of(
      mine, [&](const Digest& one) { return std::ranges::find(theirs, one) != theirs.end(); });
}

Error unknown_to(const PeerRow& peer) {
  return {.code = ErrorCode::kNotFound,
          .cause = "this site and site " + peer.name + " do not protect this VM together",
          .effect = "nothing was done",
          .mend = "holdfast protection show at both sites"};
}

}  // namespace

bool holds(const vault::TitleView& view, const SiteId& site) {
  return view.head != nullptr && view.head->statement().holder == site;
}

bool ever_named(Services& services, VmId vm, const vault::TitleView& view, const SiteId& site) {
  if (view.head->statement().names(site)) return true;
  const Result<Bytes> all = services.vault.title_lacking(vm, {});
  if (!all.ok()) return false;
  const auto chain = title::decode_bundle(*all);
  return chain.ok() && std::ranges::any_of(*chain, [&](const title::SignedPtr& one) {
           return one->statement().names(site);
         });
}

void TitleKeeper::start() {
  thread_ = std::thread([this] { run(); });
  Result<std::vector<VmRow>> rows = services_.catalog->vms();
  if (!rows.ok()) return log_error(rows.error().describe());
  for (const VmRow& row : *rows) look(row.id);
}

void TitleKeeper::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

// ---- Exchange -----------------------------------------------------------------------------------

Result<vault::TitleView> TitleKeeper::learn(VmId vm, SiteId site, ByteSpan bundle, bool begin) {
  vault::TitleLearned learned = TRY(services_.vault.title_learn(vm, site, bundle, begin));
  for (const title::RefusedStatement& refused : learned.refused) {
    log_peer(PeerLog::kRequest, "VM " + vm.hex() + ": a statement of site " + site.hex() +
                                    " is refused: " + std::string(to_string(refused.cause)));
  }
  if (learned.head_changed || learned.fence) TRY(settle(vm, learned.view));
  if (!learned.view.rivals.empty()) look(vm);
  return std::move(learned.view);
}

Result<TitleKeeper::Exchanged> TitleKeeper::exchange(VmId vm, SiteId site, Millis limit,
                                                     peer::Delivery* delivery) {
  const Clock::time_point until = Clock::now() + limit;
  vault::TitleView view = TRY(services_.vault.title(vm));
  Bytes bundle;
  for (int round = 0; round < kRounds; ++round) {
    const auto left = std::chrono::duration_cast<Millis>(until - Clock::now());
    if (left <= 0ms) {
      return Error{.code = ErrorCode::kTimeout, .cause = "the other site did not answer in time"};
    }
    const std::vector<Digest> mine = known_of(view);
    const title::Question question = TRY(services_.vault.title_ask(vm, site));
    const TitleAnswer answer = TRY(services_.peers->ask<TitleAnswer>(
        site,
        TitleQuestion{.vm = vm,
                      .known = mine,
                      .bundle = bundle,
                      .question = vault::encode_question(question)},
        left, delivery));
    delivery = nullptr;  // it is there
    if (!answer.bundle.empty()) view = TRY(learn(vm, site, answer.bundle));
    const title::Judged<void> taken = TRY(services_.vault.title_take_answer(vm, answer.answer));
    const bool both_know = knows_all(answer.known, known_of(view)) && known_of(view) == mine;
    if (both_know && taken) {
      return Exchanged{.view = std::move(view),
                       .answer = TRY(title::SignedAnswer::decode(answer.answer)).answer};
    }
    bundle = both_know ? Bytes() : TRY(services_.vault.title_lacking(vm, answer.known));
  }
  return Error{.code = ErrorCode::kUnavailable,
               .cause = "the sites did not come to know the same of the VM",
               .effect = "nothing was signed"};
}

Result<std::vector<SiteId>> TitleKeeper::ask_members(VmId vm, Millis limit) {
  std::vector<SiteId> silent;
  const vault::TitleView view = TRY(services_.vault.title(vm));
  const SiteId self = services_.site.site_id;
  for (const title::Member& member : view.head->statement().members.all()) {
    if (member.site == self) continue;
    // Of one that is not there the question stands all the same: it is what silence is counted by.
    Result<Exchanged> asked = Error{.code = ErrorCode::kUnavailable, .cause = "no link to it"};
    if (services_.peers->connected(member.site)) {
      asked = exchange(vm, member.site, limit);
    } else {
      TRY(services_.vault.title_ask(vm, member.site));
    }
    if (asked.ok()) continue;
    silent.push_back(member.site);
    log_info("VM " + vm.hex() + ": site " + services_.protections->peer_name(member.site) +
             " was not heard from: " + asked.error().cause);
  }
  return silent;
}

// What the replica here has, as its keeper shows it to the vault now.
static void show_line(Services& services, const VmRow& row) {
  if (row.role != VmRole::kStandby || !services.units->running(replica_unit(row.id))) return;
  keeper_protocol::Client keeper(services.paths.run_file(row.id, "control.sock"));
  Result<keeper_protocol::Shown> shown = keeper.ask(keeper_protocol::ShowLine{}, kShowLimit);
  if (!shown.ok()) log_warning("VM " + row.name + ": " + shown.error().describe());
}

Result<TitleAnswer> TitleKeeper::serve(const TitleQuestion& question, const PeerRow& peer) {
  const VmId vm = question.vm;
  Result<VmRow> row = services_.catalog->vm(vm);
  Result<vault::TitleView> view = services_.vault.title(vm);
  // Of a VM that was deleted here, or a replica that was removed, the title may still be known.
  if (!row.ok() && row.error().code != ErrorCode::kNotFound) return std::move(row).error();
  if (!view.ok()) return unknown_to(peer);
  const title::Question asked = TRY(vault::decode_question(question.question));
  if (asked.vm != vm || asked.from != peer.site) return unknown_to(peer);
  // Whoever never was a member may be the one who took it: its statements say so, or nothing does.
  const bool member = ever_named(services_, vm, *view, peer.site);
  if (!question.bundle.empty()) view = TRY(learn(vm, peer.site, question.bundle));
  if (!member && !view->head->statement().names(peer.site)) return unknown_to(peer);
  row = services_.catalog->vm(vm);
  if (row.ok()) show_line(services_, *row);
  TitleAnswer answer{.known = known_of(*view)};
  if (!knows_all(question.known, answer.known))
    answer.bundle = TRY(services_.vault.title_lacking(vm, question.known));
  const bool replica = row.ok() && row->role == VmRole::kStandby;
  answer.answer =
      TRY(services_.vault.title_answer(asked, {.accepts = replica, .prepared = replica}));
  return answer;
}

// ---- Signing ------------------------------------------------------------------------------------

Result<vault::TitleView> TitleKeeper::sign(const VmRow& row, const Act& act) {
  const vault::TitleView view = TRY(services_.vault.title(row.id));
  vault::TitleProposal proposal{
      .vm = row.id, .about = view.head->digest(), .kind = act.kind, .subject = act.subject};
  if (!act.word.empty()) proposal.token = TRY(title::Token::parse_hex(act.word));
  vault::TitleSigned outcome = TRY(services_.vault.title_propose(proposal));
  if (!outcome) return refused_by_title(services_, row, outcome.error(), "nothing was signed");
  log_info("VM " + row.name + ": signed \"" +
           std::string(to_string(outcome->head->statement().kind)) + "\"");
  TRY(settle(row.id, *outcome));
  return *std::move(outcome);
}

Result<vault::TitleView> TitleKeeper::sign_within(const VmRow& row, const Act& act, Millis limit) {
  const Clock::time_point until = Clock::now() + limit;
  for (;;) {
    Result<vault::TitleView> done = sign(row, act);
    if (done.ok() || done.error().code != ErrorCode::kUnavailable) return done;
    if (Clock::now() >= until || services_.ending) return done;
    std::this_thread::sleep_for(100ms);
    TRY(ask_members(row.id, 700ms));
  }
}

// ---- What follows -------------------------------------------------------------------------------

Status TitleKeeper::settle(VmId vm, const vault::TitleView& view) {
  constexpr int kTries = 5;  // another thread may settle it, too
  const title::Statement& title = view.head->statement();
  for (int i = 0;; ++i) {
    Result<VmRow> row = services_.catalog->vm(vm);
    if (!row.ok()) return {};  // it is being made, or was deleted
    const bool here = title.holder == services_.site.site_id;
    VmRole role = row->role;
    if (role == VmRole::kActive && !here) role = VmRole::kSuperseded;
    const Epoch epoch = std::max(row->epoch, title.epoch);
    if (role == row->role && epoch == row->epoch) break;
    std::string note = row->note;
    if (role != row->role) {
      note = std::string(title.kind == title::Kind::kHandOver ? "handed over to site "
                                                              : "taken over by site ") +
             services_.protections->peer_name(title.holder);
    }
    Status stored = services_.catalog->change_role(*row, role, epoch, note);
    if (!stored.ok() && stored.error().code == ErrorCode::kConflict && i < kTries) continue;
    TRY(std::move(stored));
    if (role != row->role) {
      log_warning("VM " + row->name + " is not this site's any more: " + note);
      Status fenced = services_.reconciler->fence(vm);
      // A hand-over is told by who signed it, and knows for whom.
      if (title.issuer != services_.site.site_id)
        services_.happened("vm.superseded", row->name, "is not this site's any more: " + note, {},
                           Severity::kWarning);
      TRY(std::move(fenced));
    }
    break;
  }
  look(vm);
  return {};
}

void TitleKeeper::look(VmId vm) {
  {
    std::lock_guard lock(mutex_);
    due_[vm] = {};
  }
  changed_.notify_all();
}

void TitleKeeper::on_peer(SiteId site) {
  Result<std::vector<ProtectionRow>> rows = services_.catalog->protections();
  if (!rows.ok()) return log_error(rows.error().describe());
  for (const ProtectionRow& row : *rows) {
    if (row.peer == site) look(row.vm);
  }
}

void TitleKeeper::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    Time next = Time::max();
    std::optional<VmId> now;
    for (const auto& [vm, due] : due_) {
      next = std::min(next, due.at);
      if (!now && due.at <= Clock::now()) now = vm;
    }
    if (!now) {
      if (next == Time::max()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, next);
      }
      continue;
    }
    Due due = due_.at(*now);
    due_.erase(*now);
    lock.unlock();
    const bool done = step(*now);
    lock.lock();
    if (done || due_.contains(*now)) continue;
    due.at = Clock::now() + due.pace.next();
    due_.emplace(*now, due);
  }
}

// True: nothing is left to do until something changes.
bool TitleKeeper::step(VmId vm) {
  Result<VmRow> row = services_.catalog->vm(vm);
  Result<vault::TitleView> view = services_.vault.title(vm);
  if (!row.ok() || row->role == VmRole::kCreating) return true;
  if (!view.ok()) return view.error().code == ErrorCode::kNotFound;
  const SiteId self = services_.site.site_id;
  // Signed, and not carried to its end.
  if (row->role == VmRole::kActive && !holds(*view, self)) {
    if (!settle(vm, *view).ok()) return false;
    row = services_.catalog->vm(vm);
    if (!row.ok()) return true;
  }
  using Follow = Settlements::Follow;
  const Follow follow = services_.protections->settlements().follow(*row, *view);
  if (follow != Follow::kNothing) return follow == Follow::kDone;
  if (holds(*view, self)) return make_standby(*row, *view);
  if (view->head->statement().is_standby(self)) return become_standby(*row, *view);
  return true;
}

// The site that this VM is protected by has all of it: from now on its silence counts, and it may
// take the VM.
bool TitleKeeper::make_standby(const VmRow& row, const vault::TitleView& view) {
  const Result<ProtectionRow> protection = services_.catalog->protection(row.id);
  if (row.role != VmRole::kActive || !protection.ok() || protection->direction != Direction::kOut ||
      protection->state != ProtectionState::kStands) {
    return true;
  }
  const SiteId peer = protection->peer;
  if (view.head->statement().is_standby(peer)) return true;
  if (!services_.peers->connected(peer)) return true;  // its coming is told
  const Result<Exchanged> asked = exchange(row.id, peer, kPeerLimit);
  if (!asked.ok() || !asked->answer.whole) return false;
  // What that site's keeper has shown there has to lie on the line here. Of a VM that does not run
  // the last keeper has shown it.
  if (services_.units->running(keeper_unit(row.id))) {
    const title::Line& line = asked->answer.line;
    const keeper_protocol::End theirs{.incarnation = line.position.incarnation,
                                      .sequence = line.position.sequence,
                                      .chain = line.chain};
    keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
    const Result<keeper_protocol::Shown> shown =
        keeper.ask(keeper_protocol::ShowLine{.holds = theirs}, kShowLimit);
    if (!shown.ok() || !shown->holds) return false;
  }
  const Result<vault::TitleView> signed_it =
      sign(row, {.kind = title::Kind::kStandBy, .subject = peer});
  if (!signed_it.ok()) return false;
  services_.happened(
      "protection.stands-by", row.name,
      "site " + services_.protections->peer_name(peer) + " has all of it, and stands by", {});
  return exchange(row.id, peer, kPeerLimit).ok();
}

// This site has given the VM away, and stands by for whoever has it: its directory goes on as the
// replica of that site's line, which it is the beginning of.
bool TitleKeeper::become_standby(const VmRow& row, const vault::TitleView& view) {
  if (row.role != VmRole::kSuperseded) return true;
  const VmId vm = row.id;
  if (services_.units->running(qemu_unit(vm)) || services_.units->running(keeper_unit(vm)) ||
      services_.units->in_doubt()) {
    return false;  // it is being ended
  }
  services_.protections->end_stream(vm);
  const Result<vault::KeyInfo> key = services_.vault.key_info(vm);
  if (!key.ok()) {
    log_error(key.error().describe());
    return false;
  }
  const ProtectionRow protection{.vm = vm,
                                 .peer = view.head->statement().holder,
                                 .direction = Direction::kIn,
                                 .journal_public_key = to_hex(key->journal_public_key),
                                 .minted_at = key->minted_at,
                                 .created = catalog_now()};
  Status stored = services_.catalog->stand_by(row, protection);
  if (!stored.ok()) {
    log_error(stored.error().describe());
    return false;
  }
  log_info("this site stands by for VM " + row.name + " of site " +
           services_.protections->peer_name(protection.peer));
  services_.happened("protection.stands-by", row.name,
                     "this site stands by for it, which site " +
                         services_.protections->peer_name(protection.peer) + " holds",
                     {});
  const Result<VmRow> now = services_.catalog->vm(vm);
  if (!now.ok()) return false;
  if (Status started = services_.protections->replicas().start(*now, protection); !started.ok())
    log_error("replica of " + row.name + ": " + started.error().describe());
  return true;
}

}  // namespace hf::control
