// The replicas that this site holds: each has a keeper of its own, without a key, under the VM's
// user and in the VM's directory; it runs as long as the VM stands by here. The keeper receives and
// checks; here is decided who may send to it, and when it ends.
//
// One whose data its keeper cannot open, or which fails for another reason that lasts, is tried
// again now and then; meanwhile whoever asks is told why. No other replica is touched by that.
//
// Thread-safe; every call that asks a keeper blocks for seconds at most.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "control/services.h"
#include "journal/format/lineage.h"
#include "keeper_protocol/control.h"
#include "peer/link_client.h"

namespace hf::control {

inline std::string replica_unit(VmId vm) { return "replica-" + vm.hex(); }

class Replicas {
 public:
  explicit Replicas(Services& services) : services_(services) {}

  // Starts the keepers that should run and do not.
  void start_all();
  // Makes the directory and an empty journal in it if there is none, and starts its keeper if none
  // runs. It answers when this returns.
  Status create(const VmRow& row, const ProtectionRow& protection);
  // No error if it runs.
  Status start(const VmRow& row, const ProtectionRow& protection);
  // Opens it anew, as a failover would: what is on the disk by now is checked.
  Status reopen(const VmRow& row, const ProtectionRow& protection);
  // Takes no more from its source; what it has is durable when this returns. With its end.
  Result<journal::LineEnd> seal(VmId vm);
  void unseal(VmId vm);
  // Ends the keeper: the directory is free for the one with the key.
  Status stop(VmId vm);
  // An error: it does not run just now, and why.
  Result<keeper_protocol::ReplicaStatus> status(VmId vm);
  // From now on it takes no more than that; with what it holds.
  Result<keeper_protocol::StoreUse> limit(VmId vm, std::optional<uint64_t> bytes_max);
  // The end of what it has durably; sequence 0: it is empty. Starts the keeper if need be; an error
  // says why it cannot be opened.
  Result<journal::LineEnd> held(const VmRow& row, const ProtectionRow& protection);

  // The source's site asks for a stream to the VM's keeper. On the link's worker.
  peer::StreamReply take_stream(const peer::StreamAsk& ask);

 private:
  Status launch(const VmRow& row, const ProtectionRow& protection, bool create);
  Status wait_serving(VmId vm);
  Status start_for_stream(const VmRow& row, const ProtectionRow& protection);
  Error why_gone(VmId vm);

  using Time = std::chrono::steady_clock::time_point;
  Services& services_;
  std::mutex mutex_;
  std::map<VmId, Time> tried_;  // by start_for_stream()
};

}  // namespace hf::control
