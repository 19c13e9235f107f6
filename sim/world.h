// World: two sites, the link between them, and what is true about the VM as a whole.
#pragma once

#include <map>
#include <set>

#include "sim/attack.h"
#include "sim/link.h"
#include "sim/site.h"

namespace hf::sim {

inline constexpr uint64_t kStepsMax = 2'000'000;

class World {
 public:
  World(uint64_t seed, Fault fault, bool tracing);
  ~World();

  void run();

  uint64_t operations() const { return a_.guest.operations() + b_.guest.operations(); }
  Site& home() { return a_; }
  Site& other(const Site& site) { return &site == &a_ ? b_ : a_; }
  // The site whose line counts: A until B was promoted.
  bool promoted() const { return promoted_; }
  void note_promotion();
  void sender_halted(const replication::Sender& sender);
  // What the peer says when asked over the link; nothing if it does not answer.
  std::optional<recovery::PeerAnswer> ask_peer(Site& asker);

  Scheduler scheduler;
  Judge judge;
  const Fault fault;
  SimRng rng;
  const Plan plan;
  SimNetwork network;
  Ledger ledger;
  Attack attack;
  crypto::Secret gsp;
  VmId vm;
  crypto::PublicKey public_key{};

  // What home had durably, and what the replica said it has: the second never passes the first.
  Sequence home_durable;
  Sequence replica_acknowledged;
  bool peer_forgotten = false;   // nothing is kept for the replica
  bool mending = false;          // no more faults from here on
  bool replica_spoiled = false;  // the attack was found and what it left is still there
  bool judging_replica() const { return !promoted_; }

  // The highest position that the replica said it has durably, a connection.
  void note_said(ConnectionId connection, Sequence durable) { said_[connection] = durable; }
  Sequence said_on(ConnectionId connection) const {
    const auto said = said_.find(connection);
    return said == said_.end() ? Sequence(0) : said->second;
  }

  // Every incarnation ever opened: an epoch belongs to one site.
  void note_incarnation(const journal::LineageEntry& entry);
  void note_known(const journal::LineageEntry& entry) { incarnations_.insert(entry.body.salt); }
  bool knows(const journal::LineageEntry& entry) const {
    return incarnations_.contains(entry.body.salt);
  }

 private:
  void happen(Happening happening);
  void fail_over(Happening how);
  void seed_again_when_up();
  void restart_halted_sender();
  void promote_when_stopped(uint64_t tries);
  bool step();
  void run_until(Micros when);
  bool run_until_settled(uint64_t limit_us);
  void settle();
  void last_power_loss();
  void check_superseded();

  Site a_;
  Site b_;
  bool promoted_ = false;
  bool failing_over_ = false;
  bool seeding_ = false;
  uint64_t steps_ = 0;
  std::map<Epoch, SiteId> epochs_;
  std::map<ConnectionId, Sequence> said_;
  std::set<IncarnationId> incarnations_;  // of lines that served the guest
};

}  // namespace hf::sim
