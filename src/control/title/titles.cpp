#include "control/title/titles.h"

#include <algorithm>

#include "control/core/log.h"
#include "control/lifecycle/act.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

// Of an exchange: a site that always knows something new is no use. A bundle has room for some 180
// statements; so many rounds carry the longest chain, and some more.
constexpr int kRounds = 48;
constexpr auto kShowLimit = 2s;

std::vector<Digest> known_of(const vault::TitleView& view) {
  std::vector<Digest> known;
  if (view.head != nullptr) known.push_back(view.head->digest());
  for (const title::SignedPtr& rival : view.rivals) known.push_back(rival->digest());
  return known;
}

// What a site that has said this of itself has, as far as can be told here.
std::vector<Digest> with_ancestors(std::vector<Digest> known,
                                   const std::vector<Digest>& ancestors) {
  known.insert(known.end(), ancestors.begin(), ancestors.end());
  return known;
}

bool knows_all(const std::vector<Digest>& theirs, const std::vector<Digest>& mine) {
  return std::ranges::all_of(
      mine, [&](const Digest& one) { return std::ranges::find(theirs, one) != theirs.end(); });
}

bool offered_to(Services& services, VmId vm, const SiteId& site) {
  const Result<ProtectionRow> protection = services.catalog->protection(vm);
  return protection.ok() && protection->peer == site;
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
  const Result<std::vector<title::SignedPtr>> chain = whole_chain(services, vm);
  return chain.ok() && std::ranges::any_of(*chain, [&](const title::SignedPtr& one) {
           return one->statement().names(site);
         });
}

Result<std::vector<title::SignedPtr>> whole_chain(Services& services, VmId vm) {
  std::vector<title::SignedPtr> chain;
  std::vector<Digest> ends;  // of what came, what nothing that came follows
  // A vault gives as many as fit an answer, oldest first.
  while (chain.size() < title::kStatementsMax) {
    const Bytes bundle = TRY(services.vault.title_lacking(vm, ends));
    const std::vector<title::SignedPtr> more = TRY(title::decode_bundle(bundle));
    if (more.empty()) break;
    for (const title::SignedPtr& one : more) {
      std::erase_if(ends, [&](const Digest& end) {
        return end == one->statement().follows || end == one->statement().beside;
      });
      ends.push_back(one->digest());
    }
    chain.insert(chain.end(), more.begin(), more.end());
  }
  return chain;
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
    services_.peer_log.line(PeerDoes::kRequest, site,
                            "VM " + vm.hex() + ": a statement of site " + site.hex() +
                                " is refused: " + std::string(to_string(refused.cause)));
  }
  if (learned.head_changed || learned.fence) TRY(settle(vm));
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
                      .ancestors = view.ancestors,
                      .bundle = bundle,
                      .question = vault::encode_question(question)},
        left, delivery));
    delivery = nullptr;  // it is there
    if (!answer.bundle.empty()) view = TRY(learn(vm, site, answer.bundle));
    const title::Judged<void> taken = TRY(services_.vault.title_take_answer(vm, answer.answer));
    const bool both_know = knows_all(answer.known, known_of(view)) && known_of(view) == mine;
    if (both_know && taken) {
      {
        std::lock_guard lock(mutex_);
        known_[vm][site] = view.head->digest();
      }
      return Exchanged{.view = std::move(view),
                       .answer = TRY(title::SignedAnswer::decode(answer.answer)).answer};
    }
    bundle = both_know ? Bytes()
                       : TRY(services_.vault.title_lacking(
                             vm, with_ancestors(answer.known, answer.ancestors)));
  }
  return Error{.code = ErrorCode::kUnavailable,
               .cause = "the sites did not come to know the same of the VM",
               .effect = "nothing was signed"};
}

bool TitleKeeper::knows(VmId vm, SiteId site, const Digest& head) {
  std::lock_guard lock(mutex_);
  const auto found = known_.find(vm);
  if (found == known_.end()) return false;
  const auto of_site = found->second.find(site);
  return of_site != found->second.end() && of_site->second == head;
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

Result<vault::TitleView> TitleKeeper::learn_all(VmId vm, SiteId site, ByteSpan first,
                                                const TitleLooks& enough, Millis limit,
                                                bool begin) {
  vault::TitleView view = TRY(learn(vm, site, first, begin));
  if (enough(view)) return view;
  Result<Exchanged> rest = exchange(vm, site, limit);
  if (rest.ok()) return std::move(rest->view);
  // What it said is what there is to go by; the caller finds it wanting, in its own words.
  log_info("VM " + vm.hex() + ": the rest of its title: " + rest.error().describe());
  return services_.vault.title(vm);
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
  // So may one that the VM is being offered to, which fetches what the offer had no room for.
  const bool member =
      ever_named(services_, vm, *view, peer.site) || offered_to(services_, vm, peer.site);
  if (!question.bundle.empty()) view = TRY(learn(vm, peer.site, question.bundle));
  if (!member && !view->head->statement().names(peer.site)) return unknown_to(peer);
  row = services_.catalog->vm(vm);
  if (row.ok()) show_line(services_, *row);
  TitleAnswer answer{.known = known_of(*view), .ancestors = view->ancestors};
  if (!knows_all(question.known, answer.known)) {
    answer.bundle =
        TRY(services_.vault.title_lacking(vm, with_ancestors(question.known, question.ancestors)));
  }
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
  TRY(settle(row.id));
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

Status TitleKeeper::settle(VmId vm) {
  Status fenced = fence_by_title(services_, vm);
  look(vm);
  return fenced;
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
  using Follow = Settlements::Follow;
  const Follow settled = services_.protections->settlements().follow(vm);
  if (settled != Follow::kNothing) return settled == Follow::kDone;
  // Whoever works on it now ends first; but a VM that is another's runs nothing here meanwhile.
  std::optional<Turns::Turn> turn = services_.protections->turns().take(vm, 0ms);
  if (!turn) return fence_by_title(services_, vm).ok() && false;
  const Result<ActOutcome> done = ActRunner(services_, vm, {.act = lifecycle::Act::kFollow}).run();
  if (!done.ok() && done.error().code == ErrorCode::kNotFound) {
    std::lock_guard lock(mutex_);
    known_.erase(vm);
    return true;
  }
  if (!done.ok()) return false;
  if (done->failed) log_info("VM " + vm.hex() + ": " + done->failed->describe());
  return done->did(lifecycle::Done::kNothingLeft);
}

}  // namespace hf::control
