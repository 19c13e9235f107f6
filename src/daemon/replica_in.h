// Receives one VM's journal from its source: a connection's bytes through the Receiver into a
// replica journal on this site's disk.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "daemon/services.h"
#include "daemon/tls.h"
#include "replication/receiver.h"

namespace hf::daemon {

struct ReplicaView {
  bool connected = false;
  journal::LineEnd durable;
  Micros durable_time;  // record time of the newest durable record
  Sequence home_durable;
  std::optional<Error> error;
};

// Makes the directory and an empty replica journal in it.
Status create_replica(const Services& services, VmId vm, const crypto::PublicKey& journal_key);
// Whether a replica that nobody has open can be opened: closes, tables, MANIFEST and the newest
// records. An error names the file and what differs; nothing is promoted on it.
Status check_replica(const Services& services, VmId vm, const ProtectionRow& protection);

// One connection at a time carries a VM.
class ReplicaDesk {
 public:
  explicit ReplicaDesk(Services& services) : services_(services) {}

  // Runs a connection to its end, on the calling thread. A newer connection ends an older one: the
  // source would not connect anew if the older still worked.
  void serve(VmId vm, const PeerRow& peer, TlsStream& tls, replication::FrameReader& reader,
             const replication::Frame& hello);
  // Ends the VM's connection, refuses others from now on and waits until the journal is closed.
  Status close(VmId vm, std::chrono::milliseconds limit);
  void reopen(VmId vm);
  ReplicaView view(VmId vm);
  void stop();

 private:
  struct Seat {
    bool closed = false;
    uint64_t newest = 0;  // number of the connection that may run
    bool busy = false;
    ReplicaView view;
  };
  bool take_seat(VmId vm, uint64_t& number);
  void leave_seat(VmId vm);
  bool may_go_on(VmId vm, uint64_t number);
  Status receive(VmId vm, uint64_t number, const ProtectionRow& protection, Epoch epoch,
                 TlsStream& tls, replication::FrameReader& reader, const replication::Frame& hello);

  Services& services_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<VmId, Seat> seats_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace hf::daemon
