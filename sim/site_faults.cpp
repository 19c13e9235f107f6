// A site's bad days: failing disks, decay, and what its owner does about a journal that failed.
#include "journal/format/manifest.h"
#include "sim/link.h"
#include "sim/world.h"

namespace hf::sim {

void Site::poll() {
  const Micros now = clock.monotonic();
  if (journal_ && journal_->next_deadline() <= now) journal_->tick();
  if (journal_ && journal_->take_pin_release()) world.judge.reached(Probe::pin_released);
  if (replica_ && replica_->next_deadline() <= now) replica_->tick();
  target_->poll();
  if (source_) source_->poll();
  if (source_ && source_->sender().halt_reason() != nullptr && this == &world.home()) {
    world.sender_halted(source_->sender());
  }
  check_failures();
  if (journal_ && this == &world.home() && !world.promoted()) {
    world.home_durable = std::max(world.home_durable, journal_->durable_end().position.sequence);
  }
  if (replica_ && world.judging_replica() &&
      replica_->end().position.sequence > world.home_durable) {
    world.judge.violated("{}: the replica has {}, home has only {} durably", name,
                         replica_->end().position.sequence.value, world.home_durable.value);
  }
  if (stopping_ && journal_ && guest.quiet() && guest.working() && journal_->failed() == nullptr) {
    stopping_ = false;
    journal_->close(closed_);
  }
}

Micros Site::deadline() {
  Micros earliest(UINT64_MAX);
  if (journal_) earliest = std::min(earliest, journal_->next_deadline());
  if (replica_) earliest = std::min(earliest, replica_->next_deadline());
  if (source_) {
    const replication::Sender& sender = source_->sender();
    earliest = std::min(earliest, sender.deadline());
    if (sender.state() == replication::Sender::State::kIdle && running() &&
        world.network.link_up() && sender.reconnect_at() > clock.monotonic()) {
      earliest = std::min(earliest, sender.reconnect_at());
    }
  }
  return earliest;
}

void Site::check_failures() {
  if (replica_ && replica_->replaced() && !failing_) return replica_replaced();
  const Error* failed = nullptr;
  if (journal_) failed = journal_->failed();
  if (replica_ && failed == nullptr) failed = replica_->failed();
  if (failed == nullptr || failing_) return;
  failing_ = true;
  world.judge.note("{}: journal failed: {}", name, failed->describe());
  if (!disk.alive()) return;  // it died inside; its crash is on the way
  const bool full = failed->code == ErrorCode::kNoSpace;
  if (full) world.judge.reached(Probe::disk_full);
  if (sync_fails_) world.judge.reached(Probe::sync_failed);
  if (!full && !sync_fails_) {
    return world.judge.violated("{}: the journal failed for no reason: {}", name,
                                failed->describe());
  }
  const Loss loss = sync_fails_ && rng_.chance(1, 3) ? Loss::kPower : Loss::kProcess;
  world.scheduler.after(rng_.between(100, 2'000), [this, loss, life = life_] {
    if (life != life_) return;
    disk.set_capacity(UINT64_MAX);
    crash(loss);
  });
}

// As the daemon does it: this connection's journal is let go, the next one opens what is there.
void Site::replica_replaced() {
  failing_ = true;
  if (!disk.alive()) return;  // it died inside; its crash is on the way
  if (replica_->end().position.sequence.value > 0) world.judge.reached(Probe::older_replica_seeded);
  world.scheduler.after(rng_.between(10, 500), [this, life = life_] {
    if (life != life_) return;
    disk.kill_process();
    take_down();
    disk.reopen();
    start_replica();
  });
}

void Site::fail_next_sync() {
  if (!disk.alive() || (!journal_ && !replica_)) return;
  sync_fails_ = true;
  disk.fail_next_syncs(1);
}

void Site::fill_disk() {
  if (!disk.alive()) return;
  disk.set_capacity(disk.used_bytes() + rng_.below(8192));
}

void Site::mend() {
  disk.set_capacity(UINT64_MAX);
  disk.fail_next_syncs(0);
  disk.never_die();
  held_down_ = false;
}

// One bit of a closed segment flips while nobody looks. Opening must say so and change nothing; the
// bit is then put back.
void Site::try_decay() {
  const std::optional<Bytes> bytes = disk.contents(journal::kManifestName);
  if (!bytes) return;
  disk.never_die();
  const auto manifest = journal::decode_manifest(*bytes);
  HF_ASSERT(manifest.ok());
  std::vector<journal::SegmentEntry> closed;
  for (const journal::SegmentEntry& entry : manifest->segments) {
    if (entry.closed) closed.push_back(entry);
  }
  if (closed.empty()) return;
  const journal::SegmentEntry& victim = closed[rng_.below(closed.size())];
  const std::string file = journal::segment_name(victim.number);
  const uint64_t size =
      victim.closed->close_offset +
      journal::align_record(journal::kRecordHeaderSize + journal::kClosePayloadSize) +
      victim.closed->table_entries * journal::kExtentEntrySize + journal::kSegmentFooterSize;
  const uint64_t at = rng_.below(size);
  const Bytes before = *disk.contents(file);
  const std::array<std::byte, 1> good{before.at(at)};
  const std::array<std::byte, 1> bad{good[0] ^ static_cast<std::byte>(1u << rng_.below(8))};
  disk.tamper(file, at, bad);
  const uint64_t used = disk.used_bytes();
  world.judge.note("{}: decay: byte {} of {}", name, at, file);
  std::optional<Error> error;
  if (state_.role == recovery::Role::kReplica) {
    auto opened = journal::ReplicaJournal::open(disk, clock, replica_options());
    if (!opened.ok()) error = opened.error();
  } else {
    auto opened = journal::Journal::open(disk, clock, rng_, keys(), options());
    if (!opened.ok()) error = opened.error();
  }
  if (!error) {
    world.judge.violated("{}: byte {} of closed segment {} was flipped and nobody noticed", name,
                         at, file);
    lost_ = true;
    return;
  }
  if (error->code != ErrorCode::kCorrupt && error->code != ErrorCode::kWrongKey) {
    world.judge.violated("{}: a flipped byte is reported as {}", name, error->describe());
  }
  if (disk.used_bytes() != used)
    world.judge.violated("{}: opening damaged files changed them", name);
  world.judge.reached(Probe::decay_found);
  disk.tamper(file, at, good);
  // The check opened files: as a process that exits closes them.
  disk.kill_process();
  disk.reopen();
}

bool Site::settled() const {
  if (lost_ || stopped_) return true;
  if (!up_ || failing_ || stopping_) return false;
  switch (state_.role) {
    case recovery::Role::kSuperseded:
      return !running();
    case recovery::Role::kReplica:
      return replica_ != nullptr;
    case recovery::Role::kPrimary:
      break;
  }
  if (!running() || !guest.working() || !guest.quiet()) return false;
  if (!world.judging_replica() || !source_) return true;
  return source_->sender().caught_up() ||
         source_->sender().state() == replication::Sender::State::kHalted;
}

}  // namespace hf::sim
