// Which VMs are protected: the streams that leave, the replicas that are kept here, and the acts
// that begin and end a protection.
#pragma once

#include <mutex>

#include "control/peers/peer_messages.h"
#include "control/protection/caretakers.h"
#include "control/protection/consent.h"
#include "control/protection/replica_room.h"
#include "control/protection/replicas.h"
#include "control/protection/settlements.h"
#include "control/protection/streams.h"
#include "control/protection/turns.h"
#include "control/services.h"

namespace hf::control {

class Protections {
 public:
  explicit Protections(Services& services);
  ~Protections();

  void start();
  void stop();

  // At the source. Each may be asked for again.
  Result<sys::JsonObject> enable(VmId vm, const PeerRow& peer, Progress& progress);
  struct DisableOptions {
    bool without_peer = false;  // though the other site cannot be asked, or knows nothing of it
    std::string word;           // of an operator, for that
    std::string actor;
  };
  // A replica that the other site cannot be asked to remove is removed when it is back.
  Result<sys::JsonObject> disable(VmId vm, const DisableOptions& options, Progress& progress);
  void end_stream(VmId vm);

  // At the holder, asked by the site that stands by.
  Result<HandOverOutcome> hand_over(VmId vm, const PeerRow& to, std::chrono::milliseconds tail);
  // Records that the other site has not acknowledged; nothing: it is not known.
  std::optional<uint64_t> lacks(VmId vm);

  // Its line goes to `peer` from now on. No change if it does.
  void turned(VmId vm, SiteId peer) { streams_.add(vm, peer); }
  bool ships(VmId vm) { return streams_.has(vm); }
  // A start of a VM that was stopped to be handed over is queued.
  void start_again(VmId vm);

  // At the replica, asked by the source.
  Result<Taken> take_offer(const Offer& offer, const PeerRow& from);
  Result<Removed> withdraw(const Withdrawal& asked, const PeerRow& from);
  // Without the other site, which may be dead or not to be believed (eviction.cpp). A replica goes
  // with its key, and the VM from the catalog; of a VM that is protected from here the protection
  // ends, and what the other site holds stays there.
  Result<sys::JsonObject> evict_replica(VmId vm, const std::string& actor, Progress& progress);
  Result<sys::JsonObject> end_without_peer(VmId vm, const std::string& actor, Progress& progress);
  // A site that stood by is not to be believed any more (distrust.cpp): it has no part in the VM
  // from now on, and if it has taken it, it is taken back and run here, from what is here.
  Result<sys::JsonObject> take_back_from(VmId vm, const PeerRow& site, const DisableOptions& said,
                                         Progress& progress);
  Replicas& replicas() { return replicas_; }
  ReplicaRoom& room() { return room_; }
  Caretakers& caretakers() { return caretakers_; }
  Settlements& settlements() { return settlements_; }
  Turns& turns() { return turns_; }  // of who works on a protection, at either end

  // The launcher tells that a unit began again or ended. Does not block.
  void on_event(const launcher::Event& event);
  // The VM's keeper serves, or is gone and its key taken back. Does not block.
  void look(VmId vm) { streams_.look(vm); }
  // From the link's event thread.
  void on_stream(const peer::StreamEvent& event) { streams_.on_stream(event); }
  void on_peer(const peer::PeerState& state) { streams_.on_peer(state); }

  Result<sys::JsonObject> show(const VmRow& row);
  Result<sys::JsonArray> show_all();
  // For texts: the site's name, its id if it has none here.
  std::string peer_name(SiteId site);
  Result<sys::JsonArray> show_replicas();  // and the offers that wait

 private:
  Status take_from(const VmRow& row, SiteId site, const DisableOptions& said, Progress& progress);
  Status expel_others(const VmRow& row, const DisableOptions& options);
  Status make_member(const VmRow& row, const PeerRow& peer);
  bool is_none_of(VmId vm, SiteId site);
  Result<Removed> gone_for(VmId vm, const PeerRow& from, const Withdrawal& asked);
  Result<Bytes> resign(VmId vm, const PeerRow& from, const Withdrawal& asked);
  Result<sys::JsonObject> give_up_replica(const VmRow& row, const ProtectionRow& protection,
                                          const DisableOptions& options, const By& by);
  void withdraw_again(VmId vm);
  Error protected_elsewhere(const VmRow& row, const ProtectionRow& protection);
  Error not_its_any_more(const VmRow& row, const std::string& peer);
  // Of a replica here, with its turn.
  Status check_still_wanted(const VmRow& row, const PeerRow& from);
  Status not_held_here(const VmRow& row);
  Status remove_replica(const VmRow& row, std::string_view actor, const By& by);
  Result<sys::JsonObject> show_unsettled(const VmRow& row, const ProtectionRow& protection);
  Result<sys::JsonObject> show_stream(const VmRow& row);
  Result<sys::JsonObject> show_replica(const VmRow& row);
  Result<std::optional<keeper_protocol::Shipping>> shipping(const VmRow& row);

  Services& services_;
  std::mutex consent_mutex_;  // from a check of consent and quota until the replica is written down
  OfferPace pace_;            // with it
  Turns turns_;
  Replicas replicas_;
  ReplicaRoom room_;
  Caretakers caretakers_;
  Settlements settlements_;
  Streams streams_;
};

// Runs the VM here from what was replicated: failover.cpp.
// What a failover says of the boot it brings about.
enum class AttestationNeed {
  kNone,
  kWait,     // waits for the verdict and tells it
  kRequire,  // a VM that is not Healthy is stopped again
};
struct FailoverRequest {
  bool source_is_off = false;
  std::string word;  // of an operator, for that
  std::chrono::milliseconds wait_for_tail{10'000};
  AttestationNeed attestation = AttestationNeed::kNone;
  std::string actor;
};
// How old the state here is, and what the source says of it now.
Result<sys::JsonObject> preview_failover(Services& services, const VmRow& row);
Result<sys::JsonObject> fail_over(Services& services, VmId vm, const FailoverRequest& request,
                                  Progress& progress);

}  // namespace hf::control
