// Which VMs are protected: the streams that leave, the replicas that arrive, and the acts that
// begin and end a protection.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "daemon/replica_in.h"
#include "daemon/replication_out.h"
#include "daemon/services.h"

namespace hf::daemon {

class Protections {
 public:
  explicit Protections(Services& services);
  ~Protections();

  void start();  // a stream for each protection that leaves
  void stop();

  // At the source.
  Result<sys::JsonObject> enable(const VmRow& row, const PeerRow& peer, Progress& progress);
  Result<sys::JsonObject> disable(const VmRow& row, Progress& progress);
  void vm_started(VmId vm);
  // True when the replica has all that is durable here.
  bool drain(VmId vm, std::chrono::milliseconds limit);
  // Another site has the VM under a higher epoch: what runs here is stopped, by a job.
  void superseded(VmId vm);

  // At the replica, asked by the source.
  Result<sys::JsonObject> take_offer(const sys::JsonObject& offer, const PeerRow& from);
  Result<sys::JsonObject> withdraw(VmId vm, const PeerRow& from);
  ReplicaDesk& desk() { return desk_; }

  Result<sys::JsonObject> show(const VmRow& row);
  Result<sys::JsonArray> show_all();

 private:
  std::shared_ptr<OutgoingStream> stream(VmId vm);

  Services& services_;
  ReplicaDesk desk_;
  std::mutex mutex_;
  std::map<VmId, std::shared_ptr<OutgoingStream>> streams_;
};

// Runs the VM here from what was replicated: failover.cpp.
// What a failover says of the boot it brings about.
enum class AttestationNeed {
  kNone,
  kWait,     // waits for the verdict and tells it
  kRequire,  // a VM that is not Healthy is stopped again
};
struct FailoverRequest {
  bool source_is_dead = false;
  AttestationNeed attestation = AttestationNeed::kNone;
  std::string actor;
};
Result<sys::JsonObject> fail_over(Services& services, VmId vm, const FailoverRequest& request,
                                  Progress& progress);

}  // namespace hf::daemon
