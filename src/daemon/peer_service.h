// The other sites: pairing with them, calling them, serving them. One TCP port, TLS 1.3, what a
// connection carries named by ALPN.
//
// A connection has a thread; there are at most kPeerConnectionsMax. Any thread may call.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "daemon/services.h"
#include "daemon/tls.h"
#include "recovery/state.h"
#include "replication/wire.h"

namespace hf::daemon {

inline constexpr size_t kPeerConnectionsMax = 256;

// A site as it introduces itself at pairing: the text that is proved, and what it says.
struct Introduction {
  vault::SiteIdentity identity;
  std::string address;
};
std::string encode_introduction(const Introduction& introduction);
Result<Introduction> decode_introduction(std::string_view text);

class PeerService {
 public:
  explicit PeerService(Services& services);
  ~PeerService();

  // Identity from the vault, a fresh certificate, the listener.
  Status start();
  void stop();

  const vault::SiteIdentity& identity() const { return identity_; }
  const std::string& fingerprint() const { return fingerprint_; }  // of the own CA, hex

  // Pairing, at the site that issues a token and at the one that bears it.
  Result<sys::JsonObject> new_token(std::chrono::seconds lifetime, std::string address);
  Result<sys::JsonObject> pair(std::string_view token, std::string address);

  // Connects and makes sure that it is that peer.
  Result<std::unique_ptr<TlsStream>> connect(const PeerRow& peer, std::string_view alpn,
                                             Millis limit);
  Result<sys::JsonObject> call(SiteId peer, const sys::JsonObject& request, Millis limit);
  Result<recovery::PeerAnswer> ask_epoch(VmId vm, const recovery::RecoveryState& state,
                                         Millis limit);
  struct StopAnswer {
    recovery::SourceAnswer answer = recovery::SourceAnswer::kNoAnswer;
    journal::LineEnd durable;
  };
  // Asks the VM's source to stop it for good; `reach` bounds connecting, `limit` the stopping.
  StopAnswer ask_stop(VmId vm, SiteId source, Epoch epoch, Millis reach, Millis limit);

  sys::JsonArray show_peers();

 private:
  struct Connection {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> over;
    std::shared_ptr<sys::UniqueFd> socket;  // a copy, to end the connection by
  };
  struct Contact {
    std::optional<Micros> last_seen;
    std::optional<Error> refused;  // it came with a certificate that is not the pinned one
  };

  Status make_identity();
  Status listen();
  void accept_loop();
  void serve(sys::UniqueFd socket);
  Result<PeerRow> authenticate(TlsStream& stream);
  void note_seen(SiteId site);
  void note_refused(SiteId site, const Error& error);

  void serve_pairing(TlsStream& stream);
  Result<sys::JsonObject> answer_pairing(TlsStream& stream);
  Status pin(const Introduction& introduction);
  void serve_requests(TlsStream& stream, const PeerRow& peer);
  Result<sys::JsonObject> answer_request(const sys::JsonObject& request, const PeerRow& peer);
  void serve_frames(TlsStream& stream, const PeerRow& peer);
  Bytes answer_epoch_query(const replication::Frame& frame, const PeerRow& peer);
  Bytes answer_stop(const replication::Frame& frame, const PeerRow& peer);

  Services& services_;
  vault::SiteIdentity identity_;
  std::string fingerprint_;
  std::optional<TlsIdentity> tls_;
  sys::UniqueFd listener_;
  std::atomic<bool> stopping_ = false;
  std::thread accepting_;
  std::mutex mutex_;
  std::list<Connection> connections_;
  std::map<SiteId, Contact> contacts_;
};

}  // namespace hf::daemon
