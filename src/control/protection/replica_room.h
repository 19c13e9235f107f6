// How much each replica may fill of what its source's site may place here (`site peer set
// --quota`).
//
// A replica's keeper holds itself to what it was told, and is told in time. What all replicas of a
// site were told together is never more than the quota: what is given to one is taken from what is
// free, and what one gives back counts as free only once its keeper has said so. A keeper that
// cannot be asked keeps what it was told; one that begins anew takes nothing until it is told.
//
// Thread-safe. Its thread wakes only where a site has a quota.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "control/protection/replicas.h"
#include "control/services.h"

namespace hf::control {

// What one replica holds, and may hold.
struct RoomOf {
  uint64_t stored = 0;
  uint64_t allowed = 0;  // never below `stored`, but where the quota was made smaller
};
// What each is to be allowed, so that all together are no more than the quota (or what they hold
// already). Those that need none give back; those that near their end are given. Pure.
std::vector<uint64_t> share_room(uint64_t quota, const std::vector<RoomOf>& replicas);

class ReplicaRoom {
 public:
  ReplicaRoom(Services& services, Replicas& replicas) : services_(services), replicas_(replicas) {}
  ~ReplicaRoom() { stop(); }
  ReplicaRoom(const ReplicaRoom&) = delete;
  ReplicaRoom& operator=(const ReplicaRoom&) = delete;

  void start();
  void stop();
  // A replica was made or began anew, or a quota changed. Does not block.
  void look();

 private:
  void run();
  bool share();  // true: some site has a quota
  void share_of(const PeerRow& peer, const std::vector<VmId>& vms);
  bool tell(VmId vm, std::optional<uint64_t> bytes_max);

  Services& services_;
  Replicas& replicas_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool due_ = false;
  bool stopping_ = false;
  std::thread thread_;
  // Of the thread alone: what was told last, and what it was answered with.
  std::map<VmId, RoomOf> told_;
};

}  // namespace hf::control
