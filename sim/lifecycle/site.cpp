#include "sim/lifecycle/site.h"

#include <algorithm>

#include "sim/lifecycle/world.h"

namespace hf::sim::life {

using lifecycle::Act;
using lifecycle::Done;
using lifecycle::Role;
using lifecycle::Trouble;
using lifecycle::Way;
using lifecycle::Wish;

namespace {
constexpr uint64_t kMs = 1000;
constexpr uint64_t kSecond = 1'000'000;
constexpr uint64_t kFollowPauseMax = 5 * kSecond;
constexpr uint64_t kTurnLimit = 14 * kSecond;
}  // namespace

Site::Site(World& owner, std::string site_name, const SiteId& site_id, SimRng rng)
    : world(owner),
      name(std::move(site_name)),
      id(site_id),
      vault(site_id, owner.signer(site_id), owner.verifier(), owner.kek, owner.scheduler,
            rng.fork(), owner.fault),
      rng_(std::move(rng)) {
  vault.start();
}

uint64_t Site::now() const { return world.scheduler.now().value; }
void Site::after(uint64_t delay_us, std::function<void()> what) {
  world.scheduler.after(delay_us, std::move(what));
}

void Site::create() {
  const Result<VmId> vm = vault.create();
  HF_ASSERT(vm.ok());
  world.vm_is(*vm);
  has_vm = true;
  record = {.role = Role::kActive, .epoch = Epoch(1)};
  data.append(world.next_record());
  data.sync();
  vault.put_freshness(data.end());
}

std::optional<lifecycle::Title> Site::title() {
  if (!vault.up()) return std::nullopt;
  const std::optional<vault::TitleView> view = vault.view();
  if (!view) return lifecycle::Title{};
  return lifecycle::Title{.head = view->head, .rivals = view->rivals};
}

// ---- Processes that die and come back -----------------------------------------------------------

void Site::set_guest(bool on) {
  guest = on;
  vault.guest_is(on);
}

void Site::end_keeper_unit() {
  keeper = {.life = keeper.life + 1};
  vault.keeper_gone();
}

void Site::kill_daemon() {
  if (!daemon_up || !host_up) return;
  world.note("{}: daemon killed", name);
  daemon_up = false;
  ++daemon_life_;
  job_.reset();
  turn_.reset();
  start_again_ = false;
  after(rng_.between(100, 600) * kMs, [this, life = daemon_life_] {
    if (host_up && life == daemon_life_) start_daemon();
  });
}

// By level: what runs here, whose it is, what is to be shipped.
void Site::start_daemon() {
  if (daemon_up) return;
  daemon_up = true;
  told_ = {};
  stream_ = has_vm && record.role == Role::kActive && protection && protection->way == Way::kOut &&
            protection->state == lifecycle::Protected::kStands;
  if (has_vm && record.role == Role::kActive && vault.up() &&
      (guest || keeper.kind == KeeperKind::kKeyed))
    vault.release(keeper.kind == KeeperKind::kKeyed).ok();
  look();
}

void Site::kill_vault() {
  if (!vault.up() || !host_up) return;
  world.note("{}: vault killed", name);
  vault.die();
  ++vault_life_;
  if (world.fault == Fault::kVaultRestored && rng_.chance(1, 2)) vault.files().put_copy_back();
  after(rng_.between(50, 400) * kMs, [this, life = vault_life_] {
    if (host_up && life == vault_life_) start_vault();
  });
}

void Site::start_vault() {
  if (vault.up()) return;
  vault.start();
  vault.guest_is(guest);
  // Its table comes from the launcher: who runs may have had the key from the one before.
  if (keeper.kind != KeeperKind::kNone) vault.keeper_there();
  if (!daemon_up) return;
  const bool runs_here = guest || keeper.kind == KeeperKind::kKeyed;
  if (has_vm && record.role == Role::kActive && runs_here)
    vault.release(keeper.kind == KeeperKind::kKeyed).ok();
  look();
}

void Site::kill_keeper() {
  if (!host_up || keeper.kind == KeeperKind::kNone) return;
  world.note("{}: keeper killed", name);
  keeper_comes_back();
}

// The launcher starts it again: without a seal, and with the key only if the vault gives it.
void Site::keeper_comes_back() {
  const KeeperKind kind = keeper.kind;
  const bool released = vault.up() && vault.released();
  end_keeper_unit();
  if (vault.up() && released && kind == KeeperKind::kKeyed) vault.release(true).ok();
  after(rng_.between(20, 80) * kMs, [this, kind, life = keeper.life] {
    if (!host_up || keeper.life != life || keeper.kind != KeeperKind::kNone) return;
    if (kind == KeeperKind::kReplica) {
      keeper = {.kind = kind, .life = life + 1};
      return look();
    }
    keeper = {.kind = kind, .life = life + 1};
    if (daemon_up && vault.up() && has_vm && record.role == Role::kActive) vault.release(true).ok();
    keeper_tries(keeper.life);
  });
}

// It asks for its key until it has it, opens its line, and asks for the gate until it is open.
void Site::keeper_tries(uint64_t life) {
  if (!host_up || keeper.life != life || keeper.kind != KeeperKind::kKeyed || keeper.opened) return;
  if (vault.up() && vault.fetch_key()) {
    // It opens at or after its freshness record, or not at all.
    const std::optional<title::Line> fresh = vault.freshness();
    if (fresh && !data.has(*fresh)) {
      world.note("{}: its line ends before its freshness record", name);
      return end_keeper_unit();
    }
    data.sync();  // what it inherited is durable before anything else
    if (vault.open_gate()) {
      vault.put_freshness(data.end());
      keeper.opened = true;
      return world.opened(*this);
    }
    world.note("{}: the gate stays shut: {}", name, vault.gate_says());
  }
  // The daemon releases it again, as it does when a vault begins anew.
  if (vault.up() && daemon_up && has_vm && record.role == Role::kActive && !vault.released())
    vault.release(true).ok();
  after(50 * kMs, [this, life] { keeper_tries(life); });
}

void Site::kill_host(uint64_t back_after_us) {
  if (!host_up) return;
  world.note("{}: host lost power", name);
  host_up = false;
  ++host_life_;
  ++daemon_life_;
  ++vault_life_;
  daemon_up = false;
  job_.reset();
  turn_.reset();
  start_again_ = false;
  if (vault.up()) vault.die();
  set_guest(false);
  keeper = {.life = keeper.life + 1};
  vault.keeper_gone();
  data.lose_unsynced();
  ++bar;
  after(back_after_us, [this, life = host_life_] {
    if (!host_up && life == host_life_) start_host();
  });
}

void Site::start_host() {
  world.note("{}: host is back", name);
  host_up = true;
  ++host_life_;
  start_vault();
  start_daemon();
}

void Site::mend() {
  if (!host_up) return start_host();
  if (!vault.up()) start_vault();
  if (!daemon_up) start_daemon();
}

// ---- The guest ----------------------------------------------------------------------------------

void Site::guest_works() {
  if (!runs()) return;
  world.check_alone(*this);
  data.append(world.next_record());
  if (rng_.chance(1, 3)) {
    data.sync();
    world.promised(*this);
    if (rng_.chance(1, 3) && vault.up()) vault.put_freshness(data.end());
  }
}

void Site::guest_stops_itself() {
  if (!guest || !daemon_up || job_ || turn_) return;
  set_guest(false);
  record.wanted = false;
  close_keeper();
  end_keeper_unit();
  if (vault.up()) vault.revoke();
}

void Site::guest_dies() {
  if (guest) set_guest(false);
}

void Site::lose_replica_unit() {
  if (keeper.kind == KeeperKind::kReplica) end_keeper_unit();
}

// In order: what it has is durable, and the vault knows its end.
void Site::close_keeper() {
  if (keeper.kind != KeeperKind::kKeyed || !keeper.opened) return;
  data.sync();
  if (!vault.up()) return;
  vault.put_freshness(data.end());
  vault.show_line(data.end(), std::nullopt);
}

// ---- Acts ---------------------------------------------------------------------------------------

bool Site::command(Wish wish, const title::Token& word, std::function<void(const Step&)> then) {
  if (!daemon_up || job_ || !has_vm) return false;
  const bool turn = wish.act != Act::kStop;
  if (turn && turn_) return false;
  job_ = std::make_shared<Doing>(Doing{.machine = lifecycle::Machine(wish),
                                       .word = word,
                                       .daemon = daemon_life_,
                                       .bar = bar,
                                       .turn = turn,
                                       .epoch = record.epoch,
                                       .then = std::move(then)});
  if (turn) turn_ = job_;
  world.note("{}: begins {}", name, to_string(wish.act));
  advance(job_);
  return true;
}

void Site::look() {
  follow_pause_ = 100 * kMs;
  if (follow_due_) return;
  follow_due_ = true;
  after(rng_.between(1, 5) * kMs, [this, life = daemon_life_] {
    follow_due_ = false;
    if (!daemon_up || life != daemon_life_ || !has_vm) return;
    if (world.fault == Fault::kFenceBehindJob && job_) {
      after(100 * kMs, [this] { look(); });
      return;
    }
    if (turn_) {
      fence_now();
      after(100 * kMs, [this] { look(); });
      return;
    }
    turn_ = std::make_shared<Doing>(Doing{.machine = lifecycle::Machine({.act = Act::kFollow}),
                                          .daemon = daemon_life_,
                                          .bar = bar,
                                          .turn = true});
    advance(turn_);
  });
}

lifecycle::Observed Site::observe() {
  lifecycle::Observed seen{.self = id, .now = title::Instant(now())};
  if (const auto known = title()) seen.title = *known;
  seen.record = record;
  seen.protection = protection;
  seen.units = {.guest = guest,
                .keeper = keeper.kind == KeeperKind::kKeyed,
                .replica = keeper.kind == KeeperKind::kReplica};
  if (keeper.kind == KeeperKind::kReplica)
    seen.replica = {.sealed = keeper.sealed,
                    .empty = data.synced() == 0 && world.fault != Fault::kEmptyReplicaTaken};
  if (protection) seen.peer_connected = world.connected(*this, world.site(protection->peer));
  seen.peer_knows = seen.title.head != nullptr && told_ == seen.title.head->digest();
  seen.stream = stream_;
  return seen;
}

void Site::advance(DoingPtr act) {
  if (!alive(act)) return;
  if (!has_vm) return finish(act, {.what = Step::What::kRefused});
  // Without a vault nothing but a fence goes on, by the record alone.
  const bool follows = act->machine.wish().act == Act::kFollow;
  if (!vault.up() && !follows) return finish(act, {.what = Step::What::kRefused});
  const Step step = act->machine.next(observe());
  if (step.what != Step::What::kEffect) return finish(act, step);
  world.event();
  world.reach(act->machine.wish().act, step.effect);
  world.before(*this, act->machine.wish().act, step.effect);
  if (!alive(act)) return;
  begin(act, step, [this, act, step](const Ended& how) {
    if (!alive(act)) return;
    if (how.trouble == Trouble::kNone) world.after(*this, act->machine.wish().act, step.effect);
    if (!alive(act)) return;
    act->machine.ended(step, how, observe());
    const bool pause = how.trouble == Trouble::kTime && !is_message(step.effect);
    after(pause ? 100 * kMs : rng_.between(100, 3000), [this, act] { advance(act); });
  });
}

void Site::finish(DoingPtr act, const Step& step) {
  act->over = true;
  world.note("{}: {} ends: {} {} {}", name, to_string(act->machine.wish().act),
             static_cast<int>(step.what), static_cast<int>(step.done),
             static_cast<int>(step.refusal));
  if (job_ == act) job_.reset();
  if (turn_ == act) turn_.reset();
  if (act->then) act->then(step);
  if (start_again_ && !job_ && daemon_up) {
    start_again_ = false;
    if (record.role == Role::kActive && record.wanted && !guest) command({.act = Act::kStart});
  }
  if (act->machine.wish().act != Act::kFollow) return look();
  if (vault.up() && step.what == Step::What::kDone && step.done == Done::kNothingLeft) return;
  const uint64_t pause = follow_pause_;
  after(pause, [this, pause, life = daemon_life_] {
    if (life != daemon_life_) return;
    look();
    follow_pause_ = std::min(pause * 2, kFollowPauseMax);
  });
}

// ---- What is learned ----------------------------------------------------------------------------

bool Site::learn(const SiteId& from, ByteSpan bundle, bool begin) {
  const Result<vault::TitleLearned> learned = vault.learn(from, bundle, begin);
  if (!learned.ok()) return false;
  if (learned->head_changed || learned->fence) settle();
  return true;
}

void Site::settle() {
  if (world.fault != Fault::kFenceBehindJob || !job_) fence_now();
  look();
}

// At once, whatever else goes on.
void Site::fence_now() {
  if (!has_vm || !daemon_up) return;
  const DoingPtr act = std::make_shared<Doing>(Doing{
      .machine = lifecycle::Machine({.act = Act::kFence}), .daemon = daemon_life_, .bar = bar});
  for (int i = 0; i < 16; ++i) {
    const Step step = act->machine.next(observe());
    if (step.what != Step::What::kEffect) return;
    world.event();
    world.reach(Act::kFence, step.effect);
    world.before(*this, Act::kFence, step.effect);
    if (!alive(act)) return;
    bool ended = false;
    begin(act, step, [&](const Ended& how) {
      ended = true;
      act->machine.ended(step, how, observe());
    });
    HF_ASSERT(ended);
    world.after(*this, Act::kFence, step.effect);
    if (!alive(act)) return;
  }
}

// ---- Another site's questions -------------------------------------------------------------------

void Site::serve(const Question& question, Site& from, std::function<void(Reply)> reply) {
  if (!may_answer() || !vault.up()) return;
  world.event();
  Reply out;
  switch (question.kind) {
    case Question::Kind::kTitle: {
      if (!vault.view()) return reply(out);
      if (!question.bundle.empty()) learn(from.id, question.bundle);
      if (!may_answer() || !vault.up()) return;
      if (has_vm && record.role == Role::kStandby && keeper.kind == KeeperKind::kReplica)
        vault.show_line(data.end(), std::nullopt);
      out.known = vault.known();
      const auto knows = [&](const Digest& one) {
        return std::ranges::find(question.known, one) != question.known.end();
      };
      if (!std::ranges::all_of(out.known, knows)) out.bundle = vault.lacking(question.known);
      const bool replica = has_vm && record.role == Role::kStandby;
      const std::optional<Bytes> answer = vault.answer(*question.question, replica);
      if (!answer) return reply(out);
      out.answer = *answer;
      out.done = true;
      return reply(out);
    }
    case Question::Kind::kHandOver:
      return hand_over(from, std::move(reply), now() + kTurnLimit);
    case Question::Kind::kOffer: {
      if (turn_ || job_) return reply(out);
      const bool same =
          has_vm && record.role == Role::kStandby && protection && protection->peer == from.id;
      if (has_vm && !same) return reply(out);
      if (!learn(from.id, question.bundle, true)) return reply(out);
      const auto known = title();
      if (!known || !known->held_by(from.id)) return reply(out);
      if (!has_vm) {
        has_vm = true;
        data.clear();
        record = {.role = Role::kStandby, .epoch = known->head->statement().epoch};
        protection = lifecycle::Protection{.peer = from.id, .way = Way::kIn};
      }
      start_replica_unit();
      out.done = true;
      return reply(out);
    }
    case Question::Kind::kWithdraw: {
      if (turn_ || job_ || world.refuses_withdrawal()) return reply(out);
      if (has_vm && !(record.role == Role::kStandby && protection && protection->peer == from.id))
        return reply(out);
      if (!learn(from.id, question.bundle, !has_vm)) return reply(out);
      const auto known = title();
      if (!known || known->held_by(id)) return reply(out);
      // A late one, of before the VM was protected anew.
      const bool named =
          known->head->statement().names(id) &&
          known->head->statement().members.find(id)->standing != title::Standing::kMember;
      if (named && (question.known.empty() || known->head->digest() != question.known.front()))
        return reply(out);
      vault.propose(title::Kind::kResign, {}, {});
      out.bundle = vault.lacking({});
      if (has_vm) {
        end_keeper_unit();
        data.clear();
        has_vm = false;
        protection.reset();
        stream_ = false;
        vault.forget_vm();
        world.forgotten(*this);
      }
      out.done = true;
      return reply(out);
    }
  }
}

// At the holder, when nobody else has the VM's turn.
void Site::hand_over(Site& to, std::function<void(Reply)> reply, uint64_t until) {
  if (!daemon_up || !vault.up()) return;
  if (!has_vm) return reply({});
  if (turn_) {
    if (now() >= until) return reply({});
    after(50 * kMs, [this, &to, reply = std::move(reply), until, life = daemon_life_] {
      if (life == daemon_life_) hand_over(to, reply, until);
    });
    return;
  }
  turn_ = std::make_shared<Doing>(
      Doing{.machine = lifecycle::Machine({.act = Act::kHandOver, .peer = to.id}),
            .daemon = daemon_life_,
            .bar = bar,
            .turn = true});
  turn_->then = [this, reply = std::move(reply)](const Step& last) {
    Reply out{.done = last.what == Step::What::kDone};
    if (out.done && vault.up()) out.bundle = vault.lacking({});
    reply(out);
  };
  advance(turn_);
}

void Site::delete_copy() {
  if (!daemon_up || busy() || !vault.up() || !has_vm) return;
  set_guest(false);
  end_keeper_unit();
  data.clear();
  has_vm = false;
  protection.reset();
  stream_ = false;
  vault.forget_vm();
  world.forgotten(*this);
}

void Site::talk_to(Site& other) {
  if (daemon_up && vault.up())
    exchange(other, Fate::kNone, now() + 3 * kSecond, 6, {}, [](auto) {});
}

bool Site::give_up_to(Site& keep) {
  if (!able() || !keep.able() || busy() || keep.busy() || !has_vm || !keep.has_vm) return false;
  set_guest(false);
  close_keeper();
  end_keeper_unit();
  const title::Judged<vault::TitleView> outcome = vault.propose(title::Kind::kGiveUp, keep.id, {});
  if (!outcome) {
    world.note("{}: \"give up\" is refused: {}", name, to_string(outcome.error().cause));
    return false;
  }
  world.signed_here(*this, *outcome);
  data.clear();
  record = {.role = Role::kStandby, .epoch = outcome->head->statement().epoch};
  protection = lifecycle::Protection{.peer = keep.id, .way = Way::kIn};
  stream_ = false;
  start_replica_unit();
  keep.protection = lifecycle::Protection{.peer = id};
  keep.stream_ = true;
  talk_to(keep);
  look();
  keep.look();
  return true;
}

// ---- Shipping -----------------------------------------------------------------------------------

// By the keeper that has the key, or, of a VM that does not run, by one without.
void Site::ship_to(Site& other) {
  const bool ours = has_vm && record.role == Role::kActive && protection &&
                    protection->way == Way::kOut && protection->peer == other.id && stream_;
  const bool ships = runs() || (keeper.kind == KeeperKind::kNone && !guest && daemon_up);
  const bool takes = other.has_vm && other.record.role == Role::kStandby && other.protection &&
                     other.protection->peer == id && other.keeper.kind == KeeperKind::kReplica &&
                     !other.keeper.sealed;
  if (!ours || !ships || !takes || !world.link || !host_up || !other.host_up) return;
  if (!data.begins_as(other.data, other.data.size()) || other.data.size() >= data.synced()) return;
  const size_t from = other.data.size();
  const size_t to = std::min(data.synced(), from + 64);
  std::vector<uint64_t> records;
  for (size_t at = from; at < to; ++at) records.push_back(data.record(at));
  after(rng_.between(200, 3000), [&other, from, life = other.keeper.life, records] {
    if (other.keeper.life != life || other.keeper.sealed || other.data.size() != from ||
        !other.world.link)
      return;
    for (const uint64_t record : records) other.data.append(record);
    other.data.sync();
  });
}

void Site::peer_came() {
  ask_peer_at_ = 0;
  if (daemon_up) look();
}

// What ends streams at the other site is for this one to learn: it may have taken the VM.
void Site::peer_refuses() {
  if (!daemon_up || !vault.up() || !has_vm || record.role != Role::kActive || !protection ||
      protection->way != Way::kOut || !stream_ || asking_peer_ || now() < ask_peer_at_)
    return;
  Site& peer = world.site(protection->peer);
  const bool takes = peer.has_vm && peer.record.role == Role::kStandby;
  if (takes || !world.connected(*this, peer)) return;
  asking_peer_ = true;
  ask_peer_at_ = now() + kSecond;
  exchange(peer, Fate::kNone, now() + 3 * kSecond, 6, {},
           [this](const auto&) { asking_peer_ = false; });
}

void Site::learn_forged(const SiteId& from, const Bytes& bundle) {
  if (daemon_up && vault.up() && has_vm) learn(from, bundle);
}

std::string Site::describe() {
  const auto known = title();
  std::string text =
      fmt::format("[{} {} role {} wanted {} guest {} keeper {}{}{} data {} job {} turn {}", host_up,
                  daemon_up, has_vm ? static_cast<int>(record.role) : -1, record.wanted, guest,
                  static_cast<int>(keeper.kind), keeper.opened ? " open" : "",
                  keeper.sealed ? " sealed" : "", data.size(), job_ != nullptr, turn_ != nullptr);
  if (protection)
    text += fmt::format(" protection {}/{}", static_cast<int>(protection->way),
                        static_cast<int>(protection->state));
  if (known && known->head != nullptr) {
    const title::Statement& head = known->head->statement();
    text += fmt::format(" title {} holder {} standbys", to_string(head.kind),
                        world.site(head.holder).name);
    for (const title::Member& member : head.members.all())
      text +=
          fmt::format(" {}:{}", world.site(member.site).name, static_cast<int>(member.standing));
    text += fmt::format(" rivals {}", known->rivals.size());
  }
  return text + "]";
}

void Site::start_replica_unit() {
  if (keeper.kind == KeeperKind::kReplica) return;
  HF_ASSERT(keeper.kind == KeeperKind::kNone);
  keeper = {.kind = KeeperKind::kReplica, .life = keeper.life + 1};
}

}  // namespace hf::sim::life
