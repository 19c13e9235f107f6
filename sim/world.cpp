#include "sim/world.h"

namespace hf::sim {

namespace {

VmId vm_id() {
  VmId id;
  id.bytes.fill(std::byte{0x42});
  return id;
}

crypto::Secret gsp_of(SimRng& rng) {
  crypto::Secret secret(crypto::kKeySize);
  rng.fill(secret.mutable_span());
  return secret;
}

}  // namespace

World::World(uint64_t seed, Fault planted, bool tracing)
    : judge(scheduler, tracing),
      fault(planted),
      rng(seed),
      plan(make_plan(rng)),
      network(scheduler, rng.fork(), {.loss_one_in = plan.loss_one_in}),
      attack(rng.fork(), planted == Fault::kCloseNotChecked),
      gsp(gsp_of(rng)),
      vm(vm_id()),
      a_(*this, "A", 0xaa, rng.fork()),
      b_(*this, "B", 0xbb, rng.fork()) {}

World::~World() = default;

void World::run() {
  judge.note(
      "segments of {}, {} kept unmerged, sync after {} µs, think {} µs, {} in flight, horizon {} "
      "µs",
      plan.segment_bytes, plan.merge_keep_segments, plan.auto_sync_us, plan.think_us_max,
      plan.in_flight_max, plan.horizon_us);
  a_.create_home();
  b_.become_replica();
  const uint64_t start = scheduler.now().value;
  for (const PlannedEvent& event : plan.events) {
    scheduler.at(Micros(start + event.at_us), [this, event] { happen(event.happening); });
  }
  run_until(Micros(start + plan.horizon_us));
  // A replica that the attack spoiled cannot be run, and nobody vouches for the source: the end.
  const auto lost = [this] { return a_.lost() || b_.lost(); };
  if (!lost()) settle();
  if (!judge.verdict() && !lost()) last_power_loss();
  if (network.messages_lost() > 0) judge.reached(Probe::message_lost);
}

// ---- The loop -----------------------------------------------------------------------------------

bool World::step() {
  if (judge.verdict()) return false;
  if (++steps_ > kStepsMax) {
    judge.violated("the run does not come to rest");
    return false;
  }
  const Micros due = std::min(a_.deadline(), b_.deadline());
  const Micros next = scheduler.next_event();
  if (due < next) {
    scheduler.run_until(due);
  } else if (!scheduler.run_one()) {
    return false;
  }
  a_.poll();
  b_.poll();
  return true;
}

void World::run_until(Micros when) {
  while (scheduler.now() < when) {
    if (std::min({a_.deadline(), b_.deadline(), scheduler.next_event()}) > when) {
      scheduler.run_until(when);
      return;
    }
    if (!step()) return;
  }
}

bool World::run_until_settled(uint64_t limit_us) {
  const Micros limit(scheduler.now().value + limit_us);
  while (!a_.settled() || !b_.settled()) {
    if (a_.lost() || b_.lost()) return true;
    if (scheduler.now() > limit || !step()) return false;
  }
  return true;
}

// ---- What happens -------------------------------------------------------------------------------

void World::happen(Happening happening) {
  judge.note("--- {}", to_string(happening));
  Site& primary = promoted_ ? b_ : a_;
  switch (happening) {
    case Happening::kKillKeeper:
      if (primary.running()) primary.crash(Loss::kProcess);
      break;
    case Happening::kKillReplica:
      if (b_.up()) b_.crash(Loss::kProcess);
      break;
    case Happening::kPowerLossHome:
      primary.crash(Loss::kPower);
      break;
    case Happening::kPowerLossReplica:
      b_.crash(Loss::kPower);
      break;
    case Happening::kLinkCut:
      judge.reached(Probe::link_cut);
      network.set_link_up(false);
      scheduler.after(rng.between(1'000, plan.horizon_us / 3),
                      [this] { network.set_link_up(true); });
      break;
    case Happening::kRestartSender:
      a_.restart_sender();
      break;
    case Happening::kDiskFull:
      (rng.chance(2, 3) ? primary : b_).fill_disk();
      break;
    case Happening::kSyncFailure:
      (rng.chance(2, 3) ? primary : b_).fail_next_sync();
      break;
    case Happening::kDieInside:
      (rng.chance(2, 3) ? primary : b_)
          .die_inside(rng.chance(1, 2) ? Loss::kPower : Loss::kProcess);
      break;
    case Happening::kClockJump:
      judge.reached(Probe::clock_jumped);
      (rng.chance(1, 2) ? a_ : b_)
          .clock.jump(static_cast<int64_t>(rng.below(7'200'000'000)) - 3'600'000'000);
      break;
    case Happening::kReplicaLost:
      if (promoted_ || seeding_ || b_.replica() == nullptr || !b_.disk.alive()) break;
      if (attack.altered()) break;  // its lies go on from what they had altered
      b_.seed_again();
      break;
    case Happening::kForgetPeer:
      if (promoted_) break;
      judge.reached(Probe::peer_forgotten);
      peer_forgotten = true;
      if (a_.journal() != nullptr) a_.journal()->pin(std::nullopt);
      if (rng.chance(1, 2)) network.set_link_up(false);
      scheduler.after(rng.between(2'000, plan.horizon_us / 2), [this] {
        peer_forgotten = false;
        network.set_link_up(true);
      });
      break;
    case Happening::kAttack:
      if (promoted_) break;
      judge.reached(Probe::attack_begun);
      attack.begin();
      break;
    case Happening::kFailoverAfterStop:
    case Happening::kFailoverAfterDeath:
    case Happening::kFailoverSplit:
      fail_over(happening);
      break;
  }
}

void World::fail_over(Happening how) {
  if (failing_over_ || b_.replica() == nullptr || a_.lost()) return;
  failing_over_ = true;
  if (how == Happening::kFailoverAfterDeath) {
    a_.stay_down(true);
    a_.crash(Loss::kPower);
    scheduler.after(rng.between(1'000, plan.horizon_us), [this] { a_.stay_down(false); });
  } else if (how == Happening::kFailoverSplit) {
    network.set_link_up(false);
    scheduler.after(rng.between(5'000, plan.horizon_us), [this] { network.set_link_up(true); });
  } else if (a_.running() && network.link_up() &&
             recovery::may_promote(b_.state(), b_.replica()->durable_end()).ok()) {
    a_.stop_for(b_.state().epoch.next());
  }
  promote_when_stopped(how == Happening::kFailoverAfterStop ? 20 : 1);
}

// The operator waits a while for the source to say that it stopped, then gives his word.
void World::promote_when_stopped(uint64_t tries) {
  scheduler.after(rng.between(500, 3'000), [this, tries] {
    if (promoted_) return;
    if (a_.stopped() && mending) return;  // too late: nothing comes any more
    const auto again = [this, tries] { promote_when_stopped(tries > 1 ? tries - 1 : 1); };
    if (b_.replica() == nullptr || (!a_.stopped() && tries > 1)) return again();
    const bool stopped = a_.stopped();
    const Probe reached = stopped        ? Probe::failover_after_stop
                          : a_.running() ? Probe::failover_split
                                         : Probe::failover_after_death;
    const Status promoted =
        stopped
            ? b_.promote(recovery::SourceAnswer::kStopped, recovery::OperatorWord::kNone)
            : b_.promote(recovery::SourceAnswer::kNoAnswer, recovery::OperatorWord::kSourceIsOff);
    if (!promoted.ok()) {
      judge.note("B: not promoted: {}", promoted.error().cause);
      return again();
    }
    judge.reached(reached);
  });
}

void World::note_promotion() {
  HF_ASSERT(!promoted_);
  promoted_ = true;
}

// Home's sender will not go on by itself. Before a promotion only an attack and its aftermath
// excuse it.
void World::sender_halted(const replication::Sender& sender) {
  if (promoted_ && attack.altered()) {
    // Found before the promotion, heard of after it: the operator looks, and lets it try again.
    replica_spoiled = true;
    attack.end();
    scheduler.after(500, [this] { a_.restart_sender(); });
  }
  if (promoted_ || seeding_) return;
  judge.note("A: sender halted: {}", sender.halt_reason()->describe());
  if (attack.altered()) {
    attack.end();
    replica_spoiled = true;
    seeding_ = true;
    return seed_again_when_up();
  }
  judge.violated("A: replication halted: {}", sender.halt_reason()->describe());
}

void World::seed_again_when_up() {
  scheduler.after(rng.between(100, 2'000), [this] {
    if (promoted_) return;
    if (b_.replica() == nullptr || !b_.disk.alive()) return seed_again_when_up();
    b_.seed_again();
    restart_halted_sender();
  });
}

void World::restart_halted_sender() {
  if (promoted_) return;
  a_.restart_sender();
  const Source* source = a_.source();
  seeding_ = source != nullptr && source->sender().halt_reason() != nullptr;
  if (!seeding_) return;
  scheduler.after(1'000, [this] { restart_halted_sender(); });
}

std::optional<recovery::PeerAnswer> World::ask_peer(Site& asker) {
  Site& peer = other(asker);
  if (!network.link_up() || !peer.up()) return std::nullopt;
  // Through the frames, as the daemons would.
  const Bytes query = replication::encode_epoch_query(vm, asker.epoch_info());
  const auto asked = *replication::decode_epoch_info(replication::decode_frame(query)->body);
  const Bytes reply = replication::encode_epoch_reply(vm, peer.epoch_info());
  const auto told = *replication::decode_epoch_info(replication::decode_frame(reply)->body);
  peer.learn({.epoch = asked.epoch, .role = asked.role, .running = asked.running});
  return recovery::PeerAnswer{.epoch = told.epoch, .role = told.role, .running = told.running};
}

void World::note_incarnation(const journal::LineageEntry& entry) {
  const auto [at, fresh] = epochs_.try_emplace(entry.body.epoch, entry.body.site);
  if (!fresh && at->second != entry.body.site) {
    judge.violated("epoch {} was used by both sites", entry.body.epoch.value);
  }
}

// ---- The end ------------------------------------------------------------------------------------

void World::settle() {
  if (judge.verdict()) return;
  judge.note("=== everything is mended");
  mending = true;
  attack.end();
  network.set_link_up(true);
  for (Site* site : {&a_, &b_}) {
    site->mend();
    site->rest();
  }
  if (!run_until_settled(20'000'000) && !judge.verdict()) {
    judge.violated("A ({}) and B ({}) do not settle", a_.settled() ? "settled" : "not settled",
                   b_.settled() ? "settled" : "not settled");
  }
  check_superseded();
}

void World::check_superseded() {
  if (judge.verdict() || !promoted_ || b_.lost() || a_.stopped()) return;
  // The link is up and both daemons run: A must learn, at the latest when its sender has given up a
  // peer that lost power (SenderOptions::answer_us_max) and connected again.
  run_until(Micros(scheduler.now().value + 300'000));
  if (a_.running()) {
    judge.violated("A still runs under epoch {} although B was promoted to {}",
                   a_.state().epoch.value, b_.state().epoch.value);
  }
}

// Everything that was promised must be there after one last power loss at both sites, and the
// guest that boots reads all of it.
void World::last_power_loss() {
  for (Site* site : {&a_, &b_}) {
    if (!site->lost() && !site->stopped() && site->up()) site->crash(Loss::kPower);
  }
  if (!run_until_settled(20'000'000) && !judge.verdict()) {
    judge.violated("A ({}) and B ({}) do not come back", a_.settled() ? "settled" : "not settled",
                   b_.settled() ? "settled" : "not settled");
  }
}

}  // namespace hf::sim
