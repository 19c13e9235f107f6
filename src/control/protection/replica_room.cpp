#include "control/protection/replica_room.h"

#include <algorithm>

#include "control/core/log.h"
#include "control/store/catalog_inner.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {
constexpr auto kEvery = 1s;
// What one that does not fill it keeps: enough to begin with, until more is given.
constexpr uint64_t kShareMin = uint64_t{4} << 20;
}  // namespace

std::vector<uint64_t> share_room(uint64_t quota, const std::vector<RoomOf>& replicas) {
  std::vector<uint64_t> allowed;
  if (replicas.empty()) return allowed;
  const uint64_t share = std::max(kShareMin, quota / (4 * replicas.size()));
  uint64_t used = 0;
  for (const RoomOf& one : replicas) {
    allowed.push_back(std::max(one.stored, std::min(one.allowed, one.stored + share)));
    used += allowed.back();
  }
  // A quota that was made smaller: what is not filled yet is taken back from all.
  if (used > quota) {
    for (size_t i = 0; i < allowed.size(); ++i) allowed[i] = replicas[i].stored;
    return allowed;
  }
  const auto needs = [&](size_t i) { return allowed[i] - replicas[i].stored <= share / 2; };
  std::vector<size_t> needy;
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (needs(i)) needy.push_back(i);
  }
  // All that is free, so that a busy stream does not come to an end that is none.
  const uint64_t free = quota - used;
  for (const size_t i : needy) allowed[i] += free / needy.size();
  return allowed;
}

void ReplicaRoom::start() {
  thread_ = std::thread([this] { run(); });
  look();
}

void ReplicaRoom::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ReplicaRoom::look() {
  {
    std::lock_guard lock(mutex_);
    due_ = true;
  }
  changed_.notify_all();
}

void ReplicaRoom::run() {
  std::unique_lock lock(mutex_);
  bool bounded = false;
  for (;;) {
    const auto ready = [this] { return due_ || stopping_; };
    if (bounded) {
      changed_.wait_for(lock, kEvery, ready);
    } else {
      changed_.wait(lock, ready);
    }
    if (stopping_) return;
    due_ = false;
    lock.unlock();
    bounded = share();
    lock.lock();
  }
}

bool ReplicaRoom::share() {
  const Result<std::vector<ProtectionRow>> rows = services_.catalog->protections();
  const Result<std::vector<PeerRow>> peers = services_.catalog->peers();
  if (!rows.ok() || !peers.ok()) return !told_.empty();
  bool bounded = false;
  std::map<VmId, RoomOf> kept;
  for (const PeerRow& peer : *peers) {
    std::vector<VmId> vms;
    for (const ProtectionRow& row : *rows) {
      if (row.peer == peer.site && row.direction == Direction::kIn) vms.push_back(row.vm);
    }
    if (peer.quota_bytes != 0) {
      bounded = true;
      share_of(peer, vms);
      for (const VmId& vm : vms) kept.insert(told_.extract(vm));
    } else {
      // It had a quota, and has none any more.
      for (const VmId& vm : vms) {
        if (told_.contains(vm) && !tell(vm, std::nullopt)) kept.insert(told_.extract(vm));
      }
    }
  }
  told_ = std::move(kept);
  return bounded || !told_.empty();
}

void ReplicaRoom::share_of(const PeerRow& peer, const std::vector<VmId>& vms) {
  std::vector<RoomOf> now;
  for (const VmId& vm : vms) {
    RoomOf& room = told_[vm];
    const Result<keeper_protocol::ReplicaStatus> status = replicas_.status(vm);
    if (status.ok()) {
      room.stored = status->stored_bytes;
      // One that has no bound yet, or another one than is known here, is held to what it has.
      room.allowed = std::max(room.stored, status->stored_bytes_max.value_or(0));
      if (!status->stored_bytes_max && tell(vm, room.stored)) room.allowed = told_[vm].allowed;
    }
    now.push_back(room);
  }
  const std::vector<uint64_t> allowed = share_room(peer.quota_bytes, now);
  // First what is given back, then what is given.
  uint64_t free = peer.quota_bytes;
  for (size_t i = 0; i < vms.size(); ++i) {
    if (allowed[i] < told_[vms[i]].allowed) tell(vms[i], allowed[i]);
    free -= std::min(free, told_[vms[i]].allowed);
  }
  for (size_t i = 0; i < vms.size(); ++i) {
    RoomOf& room = told_[vms[i]];
    if (allowed[i] <= room.allowed) continue;
    const uint64_t more = std::min(free, allowed[i] - room.allowed);
    if (more > 0 && tell(vms[i], room.allowed + more)) free -= more;
  }
}

// What it is allowed then is what it was told, or what it holds already.
bool ReplicaRoom::tell(VmId vm, std::optional<uint64_t> bytes_max) {
  const Result<keeper_protocol::StoreUse> use = replicas_.limit(vm, bytes_max);
  if (!use.ok()) return false;
  if (bytes_max)
    told_[vm] = {.stored = use->stored_bytes, .allowed = std::max(*bytes_max, use->stored_bytes)};
  return true;
}

}  // namespace hf::control
