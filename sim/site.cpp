#include "sim/site.h"

#include "journal/format/manifest.h"
#include "sim/world.h"

namespace hf::sim {

namespace {

constexpr std::string_view kStateName = "recovery";
constexpr std::string_view kStateNewName = "recovery.new";

SiteId site_id(uint8_t number) {
  SiteId id;
  id.bytes.fill(std::byte{number});
  return id;
}

}  // namespace

Site::Site(World& owner, std::string site_name, uint8_t number, SimRng rng)
    : world(owner),
      name(std::move(site_name)),
      id(site_id(number)),
      clock(owner.scheduler),
      disk(owner.scheduler, rng.fork()),
      catalog(owner.scheduler, rng.fork()),
      guest(name, owner.judge, owner.scheduler, rng.fork(), owner.ledger,
            {.in_flight_max = owner.plan.in_flight_max, .think_us_max = owner.plan.think_us_max}),
      rng_(std::move(rng)),
      target_(std::make_unique<Target>(*this, rng_.fork())) {}

Site::~Site() { take_down(); }

// ---- What the processes are given ---------------------------------------------------------------

journal::JournalKeys Site::keys() const {
  return journal::JournalKeys::derive(world.gsp, world.vm, KeyVersion(1));
}

journal::Options Site::options() const {
  return {.vm = world.vm,
          .site = id,
          .epoch = state_.epoch,
          .log = replica_options().log,
          .merge_keep_segments = world.plan.merge_keep_segments,
          .merge_batch_segments = 2,
          .merge_step_bytes = 16u << 10,
          .pin_bytes_max = world.plan.pin_bytes_max};
}

journal::ReplicaOptions Site::replica_options() const {
  return {.vm = world.vm,
          .public_key = world.public_key,
          .log = {.segment_bytes = world.plan.segment_bytes,
                  .staging_bytes = 2 * journal::kRecordSizeMax + 4096,
                  .auto_sync_us = world.plan.auto_sync_us,
                  .prepare_step_bytes = 8u << 10,
                  .recycled_files_max = 1,
                  .faults = journal_faults(world.fault)}};
}

void Site::store_state(const recovery::RecoveryState& state) {
  const Bytes bytes = recovery::encode_state(state);
  catalog.remove(kStateNewName).ok();
  const FileId file = *catalog.open(kStateNewName, OpenMode::kCreate);
  HF_ASSERT(catalog.write_now(file, 0, bytes).ok() && catalog.sync_now(file).ok());
  HF_ASSERT(catalog.close(file).ok() && catalog.rename(kStateNewName, kStateName).ok());
  HF_ASSERT(catalog.sync_directory().ok());
  state_ = state;
}

void Site::load_state() {
  const std::optional<Bytes> bytes = catalog.contents(kStateName);
  HF_ASSERT(bytes.has_value());
  const auto state = recovery::decode_state(*bytes);
  HF_ASSERT(state.ok() && *state == state_);  // nothing acts on a state before it is stored
}

replication::EpochInfo Site::epoch_info() const {
  return {.epoch = state_.epoch, .site = id, .role = state_.role, .running = running()};
}

// ---- Beginning ----------------------------------------------------------------------------------

void Site::create_home() {
  recovery::RecoveryState state = recovery::new_primary(world.vm);
  state.has_peer = true;
  store_state(state);
  auto created = journal::Journal::create(disk, clock, rng_, keys(), options());
  HF_ASSERT(created.ok());
  journal_ = std::move(created).value();
  world.public_key = journal_->public_key();
  keeper_opened(Sequence(0));
}

void Site::become_replica() {
  store_state(recovery::new_replica(world.vm, Epoch(1)));
  start_replica();
}

// ---- Going down and coming back -----------------------------------------------------------------

void Site::take_down() {
  // The disk is dead already, or the whole run ends: nobody drives the journals any more.
  journal_.reset();
  guest.crash();
  if (source_) source_->keeper_gone();
  target_->stop_serving();
  replica_.reset();
  failing_ = false;
  sync_fails_ = false;
  stopping_ = false;
  life_++;
}

void Site::crash(Loss loss) {
  Judge& judge = world.judge;
  judge.note("{}: {}", name, loss == Loss::kPower ? "power lost" : "process killed");
  if (loss == Loss::kPower) {
    judge.reached(world.promoted() || state_.role != recovery::Role::kReplica
                      ? Probe::power_lost_home
                      : Probe::power_lost_replica);
    disk.power_loss();
    catalog.power_loss();
    cold_ = true;
  } else {
    judge.reached(journal_ ? Probe::keeper_killed : Probe::replica_killed);
    disk.kill_process();
  }
  worst_loss_ = std::max(worst_loss_, loss);
  take_down();
  if (loss == Loss::kPower) {
    source_.reset();
    up_ = false;
  }
  come_back_later(loss == Loss::kPower ? rng_.between(2'000, 30'000) : rng_.between(200, 3'000));
}

void Site::die_inside(Loss loss) {
  disk.die_after(rng_.between(1, 60), [this, loss] {
    world.judge.note("{}: dies inside an operation", name);
    world.judge.reached(Probe::died_inside_operation);
    world.scheduler.after(0, [this, loss, life = life_] {
      if (life == life_) crash(loss);
    });
  });
}

void Site::come_back_later(uint64_t delay_us) {
  world.scheduler.after(delay_us, [this, life = life_] {
    if (life == life_) come_back();
  });
}

void Site::come_back() {
  if (held_down_) return come_back_later(2'000);
  if (lost_) return;
  if (!disk.alive()) disk.reopen();
  if (!catalog.alive()) catalog.reopen();
  if (!up_) load_state();
  up_ = true;
  if (stopped_) return;
  if (cold_ && !world.mending && rng_.chance(1, 6)) try_decay();
  if (lost_) return;
  if (!world.mending && rng_.chance(1, 8)) {
    die_inside(rng_.chance(1, 2) ? Loss::kPower : Loss::kProcess);
  }
  if (state_.role == recovery::Role::kReplica) return start_replica();
  if (state_.role == recovery::Role::kPrimary && !cold_) return start_keeper();
  start_keeper_cold();
}

void Site::start_keeper_cold() {
  const auto peer = world.ask_peer(*this);
  if (peer) learn(*peer);
  recovery::StartWord word = recovery::StartWord::kNone;
  // The operator vouches only where it is true.
  const bool true_home = world.promoted() == (this != &world.home());
  if (!peer && true_home && (world.mending || rng_.chance(1, 3))) {
    word = recovery::StartWord::kWithoutPeer;
  }
  const Status start = recovery::may_start(state_, peer, word);
  if (start.ok()) {
    if (!peer) world.judge.reached(Probe::start_without_peer);
    if (peer && world.promoted() && this == &world.home()) {
      world.judge.violated("{}: starts from cold although {} was promoted and answers", name,
                           world.other(*this).name);
    }
    return start_keeper();
  }
  if (state_.role == recovery::Role::kSuperseded) {
    world.judge.note("{}: does not start: {}", name, start.error().cause);
    return world.judge.reached(Probe::start_refused_superseded);
  }
  if (peer) {
    return world.judge.violated("{}: may not start: {}", name, start.error().describe());
  }
  world.judge.reached(Probe::start_refused_no_answer);
  come_back_later(rng_.between(1'000, 10'000));
}

// ---- Keeper -------------------------------------------------------------------------------------

void Site::start_keeper() {
  HF_ASSERT(journal_ == nullptr && replica_ == nullptr);
  auto opened = journal::Journal::open(disk, clock, rng_, keys(), options());
  if (!opened.ok()) return keeper_refused(opened.error());
  journal_ = std::move(opened).value();
  // An opening that died half-way may have left an incarnation that never served the guest: what
  // counts is where the first unknown one branched off.
  Sequence inherited = journal_->lineage().back().body.parent.sequence;
  for (const journal::LineageEntry& entry : journal_->lineage()) {
    if (!world.knows(entry)) inherited = std::min(inherited, entry.body.parent.sequence);
  }
  keeper_opened(inherited);
}

void Site::keeper_refused(const Error& error) {
  world.judge.note("{}: open failed: {}", name, error.describe());
  if (!disk.alive()) return world.judge.reached(Probe::died_while_opening);
  if (error.code == ErrorCode::kNoSpace || sync_fails_) {
    disk.set_capacity(UINT64_MAX);
    return crash(rng_.chance(1, 2) ? Loss::kPower : Loss::kProcess);
  }
  if (world.attack.altered() || world.replica_spoiled) {
    lost_ = true;
    return;
  }
  world.judge.violated("{}: its journal does not open: {}", name, error.describe());
}

void Site::keeper_opened(Sequence inherited) {
  Judge& judge = world.judge;
  judge.note("{}: journal open, inherited up to {} ({} acknowledged, {} flushed)", name,
             inherited.value, guest.promised_to_process().value, guest.promised_to_host().value);
  if (guest.promised_to_host() > inherited) {
    judge.violated("{}: durability: {} was flushed, {} is left", name,
                   guest.promised_to_host().value, inherited.value);
  }
  if (worst_loss_ != Loss::kPower && guest.promised_to_process() > inherited) {
    judge.violated("{}: {} was acknowledged, {} is left after a process kill", name,
                   guest.promised_to_process().value, inherited.value);
  }
  if (inherited < guest.promised_to_process()) judge.reached(Probe::unsynced_records_lost);
  worst_loss_ = Loss::kNothing;
  cold_ = false;
  guest.renew_promises(inherited);
  check_lineage();
  const journal::JournalStatus status = journal_->status();
  if (status.segments > 0) judge.reached(Probe::segments_closed);
  if (status.bases > 0) judge.reached(Probe::segments_merged);
  judge.note("{}: {} segments, {} bases, {} extents", name, status.segments, status.bases,
             status.index_extents);
  for (const journal::LineageEntry& entry : journal_->lineage()) {
    judge.note("{}: lineage: {} from {}, epoch {}", name, entry.body.salt.hex().substr(0, 8),
               entry.first.value, entry.body.epoch.value);
  }
  if (this == &world.home() && world.judging_replica()) {
    world.home_durable = std::max(inherited, journal_->durable_end().position.sequence);
    Site& peer = world.other(*this);
    if (peer.replica() != nullptr && peer.replica()->end().position.sequence > world.home_durable) {
      judge.violated("{}: the replica has {}, home only {}", name,
                     peer.replica()->end().position.sequence.value, world.home_durable.value);
    }
    if (!world.peer_forgotten) journal_->pin(world.replica_acknowledged);
    if (!source_ && world.public_key != crypto::PublicKey{}) start_source();
  }
  guest.boot(*journal_, inherited);
}

void Site::check_lineage() {
  const journal::LineageEntry& own = journal_->lineage().back();
  if (own.body.epoch != state_.epoch || own.body.site != id) {
    world.judge.violated("{}: its incarnation names another epoch or site", name);
  }
  Sequence last;
  for (const journal::LineageEntry& entry : journal_->lineage()) {
    if (entry.first.value != entry.body.parent.sequence.value + 1 || entry.first <= last) {
      world.judge.violated("{}: lineage: an incarnation does not follow its parent", name);
    }
    last = entry.first;
    world.note_known(entry);
  }
  world.note_incarnation(own);
}

// ---- Replica ------------------------------------------------------------------------------------

void Site::start_replica() {
  auto opened = journal::ReplicaJournal::open(disk, clock, replica_options());
  if (!opened.ok() && opened.error().code == ErrorCode::kNotFound && !replica_made_) {
    // Nothing was acknowledged yet: what a crash left of the creation is thrown away.
    if (const auto names = disk.list(); names.ok()) {
      for (const std::string& file : *names) disk.remove(file).ok();
    }
    opened = journal::ReplicaJournal::create(disk, clock, replica_options());
  }
  if (!opened.ok()) {
    world.judge.note("{}: replica does not open: {}", name, opened.error().describe());
    if (!disk.alive()) return world.judge.reached(Probe::died_while_opening);
    if (opened.error().code == ErrorCode::kNoSpace || sync_fails_) {
      disk.set_capacity(UINT64_MAX);
      return crash(rng_.chance(1, 2) ? Loss::kPower : Loss::kProcess);
    }
    return world.judge.violated("{}: its replica does not open: {}", name,
                                opened.error().describe());
  }
  replica_made_ = true;
  replica_ = std::move(opened).value();
  replica_opened();
}

void Site::replica_opened() {
  worst_loss_ = Loss::kNothing;
  cold_ = false;
  const Sequence end = replica_->end().position.sequence;
  world.judge.note("{}: replica open up to {}, {} acknowledged", name, end.value,
                   world.replica_acknowledged.value);
  if (end < world.replica_acknowledged) {
    world.judge.violated("{}: the replica had acknowledged {}, {} is left", name,
                         world.replica_acknowledged.value, end.value);
  }
  target_->serve(*replica_, {.vm = world.vm,
                             .site = id,
                             .peer_site = world.other(*this).id,
                             .epoch = state_.epoch,
                             .public_key = world.public_key,
                             .window_bytes = 4u << 20,
                             .faults = replication_faults(world.fault)});
}

void Site::seed_again() {
  disk.kill_process();
  take_down();
  disk.reopen();
  for (const std::string& file : *disk.list()) HF_ASSERT(disk.remove(file).ok());
  HF_ASSERT(disk.sync_directory().ok());
  replica_made_ = false;
  world.replica_acknowledged = Sequence(0);
  world.replica_spoiled = false;
  world.judge.note("{}: the replica is thrown away and seeded again", name);
  world.judge.reached(Probe::replica_seeded_again);
  start_replica();
}

// ---- Sender -------------------------------------------------------------------------------------

// While its sender does not stream (halted, or the link is down) the daemon asks the peer for its
// epoch now and then: a halted sender alone would never learn that the VM was taken over.
void Site::ask_for_epoch() {
  world.scheduler.after(50'000, [this, source = source_.get()] {
    if (source_.get() != source || source == nullptr) return;
    ask_for_epoch();
    if (source->sender().state() == replication::Sender::State::kStreaming) return;
    if (const auto peer = world.ask_peer(*this)) learn(*peer);
  });
}

void Site::start_source() {
  source_ = std::make_unique<Source>(
      *this, world.other(*this),
      replication::SenderOptions{.vm = world.vm,
                                 .site = id,
                                 .peer_site = world.other(*this).id,
                                 .epoch = state_.epoch,
                                 .public_key = world.public_key,
                                 .window_bytes_max = 4u << 20,
                                 .answer_us_max = 100'000,
                                 .retry_us_min = 500,
                                 .retry_us_max = 20'000,
                                 .faults = replication_faults(world.fault)});
  ask_for_epoch();
}

void Site::restart_sender() {
  if (!source_) return;
  if (source_->asking()) {
    world.scheduler.after(500, [this, life = life_] {
      if (life == life_) restart_sender();
    });
    return;
  }
  world.judge.reached(Probe::sender_restarted);
  source_.reset();
  if (state_.role == recovery::Role::kPrimary) start_source();
}

// ---- Epochs -------------------------------------------------------------------------------------

void Site::learn(const recovery::PeerAnswer& peer) {
  const auto outcome = recovery::learn_peer(state_, peer);
  if (!outcome.ok()) return world.judge.violated("{}: {}", name, outcome.error().describe());
  if (outcome->learned == recovery::Learned::kNothing) return;
  store_state(outcome->state);
  if (outcome->learned != recovery::Learned::kSuperseded) return;
  world.judge.note("{}: superseded under epoch {}", name, state_.epoch.value);
  if (!running()) return;
  world.judge.reached(Probe::stale_source_superseded);
  if (guest.promised_to_host() > world.replica_acknowledged) {
    world.judge.reached(Probe::fork_branch_written);
  }
  disk.kill_process();
  take_down();
  source_.reset();
}

void Site::learn_epoch(Epoch epoch) {
  if (up_) learn({.epoch = epoch, .role = recovery::Role::kReplica});
}

Status Site::promote(recovery::SourceAnswer source, recovery::OperatorWord word) {
  const auto next = recovery::promote(state_, replica_->durable_end(), source, word,
                                      recovery_faults(world.fault));
  if (!next.ok()) return next.error();
  const Sequence had = replica_ ? replica_->end().position.sequence : Sequence(0);
  if (had < world.home_durable) world.judge.reached(Probe::replica_behind_at_failover);
  // The receiver dies, the keeper takes over its directory; the page cache stays.
  disk.kill_process();
  take_down();
  disk.reopen();
  store_state(*next);
  guest.inherit(world.other(*this).guest);
  guest.renew_promises(world.replica_acknowledged);
  world.note_promotion();
  world.judge.note("{}: promoted to epoch {}", name, next->epoch.value);
  if (!world.mending && rng_.chance(1, 6)) {
    world.judge.reached(Probe::failover_died_inside);
    die_inside(rng_.chance(1, 2) ? Loss::kPower : Loss::kProcess);
  }
  start_keeper();
  return {};
}

void Site::stop_for(Epoch epoch) {
  world.judge.note("{}: asked to stop for epoch {}", name, epoch.value);
  stopping_ = true;
  guest.rest();
}

void Site::on_closed(Status status) {
  if (!status.ok()) return;  // the journal failed: it will be taken down for that
  stopped_ = true;
  world.judge.note("{}: closed cleanly", name);
  world.judge.reached(Probe::home_closed_cleanly);
  // From the event loop: this runs inside the journal.
  world.scheduler.after(0, [this, life = life_] {
    if (life != life_) return;
    disk.kill_process();
    take_down();
    source_.reset();
  });
}

}  // namespace hf::sim
