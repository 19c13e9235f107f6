// Site: what one site's processes do, around the production state machines: a keeper with the
// journal or a daemon with the replica, the daemon's sender or receiver, and the recovery record on
// its own disk. It reports what it sees; events come from World.
#pragma once

#include <memory>

#include "journal/journal.h"
#include "journal/replica.h"
#include "recovery/state.h"
#include "replication/receiver.h"
#include "replication/sender.h"
#include "sim/guest.h"
#include "sim/plan.h"
#include "sim/world/network.h"
#include "sim/world/storage.h"

namespace hf::sim {

class World;
class Source;
class Target;

enum class Loss : uint8_t { kNothing, kProcess, kPower };

class Site {
 public:
  Site(World& world, std::string name, uint8_t number, SimRng rng);
  ~Site();
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  void create_home();     // the VM is created here
  void become_replica();  // and protected there
  void crash(Loss loss);  // everything of this VM here, or the whole site; comes back by itself
  void die_inside(Loss loss);
  void restart_sender();
  void fail_next_sync();
  void fill_disk();
  void poll();
  Micros deadline();

  // Failover, at the replica.
  // Refused by the rules of recovery, or done. There is a replica (asserted by use).
  Status promote(recovery::SourceAnswer source, recovery::OperatorWord word);
  // At the source: close cleanly and stay down; `stopped` is set when that is done.
  void stop_for(Epoch epoch);
  void seed_again();  // throw the replica away and take it from the beginning
  void rest() { guest.rest(); }
  void mend();  // space back, nothing fails on purpose any more
  void stay_down(bool down) { held_down_ = down; }

  bool up() const { return up_; }
  bool running() const { return journal_ != nullptr; }
  bool stopped() const { return stopped_; }
  bool lost() const { return lost_; }  // cannot run any more, for a reason that is no violation
  bool settled() const;                // nothing under way that someone waits for
  journal::Journal* journal() { return journal_.get(); }
  journal::ReplicaJournal* replica() { return replica_.get(); }
  const recovery::RecoveryState& state() const { return state_; }
  replication::EpochInfo epoch_info() const;
  void learn(const recovery::PeerAnswer& peer);
  void learn_epoch(Epoch epoch);
  Source* source() { return source_.get(); }
  Target& target() { return *target_; }

  World& world;
  const std::string name;
  const SiteId id;
  SimClock clock;
  SimStorage disk;     // the journal, or the replica
  SimStorage catalog;  // the daemon's
  Guest guest;

 private:
  struct Closed final : Completion {
    explicit Closed(Site& owner) : site(owner) {}
    void on_complete(Status status) override { site.on_closed(std::move(status)); }
    Site& site;
  };

  void come_back_later(uint64_t delay_us);
  void come_back();
  void start_keeper_cold();
  void start_keeper();
  void keeper_refused(const Error& error);
  void keeper_opened(Sequence inherited);
  void check_lineage();
  void start_replica();
  void replica_opened();
  void start_source();
  void ask_for_epoch();
  void on_closed(Status status);
  void take_down();
  void check_failures();
  void replica_replaced();
  void try_decay();
  journal::JournalKeys keys() const;
  journal::Options options() const;
  journal::ReplicaOptions replica_options() const;
  void store_state(const recovery::RecoveryState& state);
  void load_state();

  SimRng rng_;
  recovery::RecoveryState state_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<journal::ReplicaJournal> replica_;
  std::unique_ptr<Source> source_;
  std::unique_ptr<Target> target_;
  Closed closed_{*this};

  bool up_ = true;
  bool cold_ = false;  // the next keeper start is one from cold
  bool held_down_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  bool lost_ = false;
  bool failing_ = false;  // the journal failed and its end is on the way
  bool sync_fails_ = false;
  bool replica_made_ = false;
  Loss worst_loss_ = Loss::kNothing;  // since the last opening
  uint64_t life_ = 1;
};

}  // namespace hf::sim
