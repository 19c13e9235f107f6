// The link: what comes from holdfastd, from paired sites and from strangers, and where it goes.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>

#include "crypto/key_pair.h"
#include "link/daemon_port.h"
#include "link/lobby.h"
#include "link/pairing_line.h"
#include "link/peer_line.h"

namespace hf::link {

struct LinkOptions {
  sys::UniqueFd daemon_listener;  // run/link.sock
  sys::UniqueFd peer_listener;    // TCP, bound
  LobbyOptions lobby;
};

class Link final : public Uplink, public PairingOwner {
 public:
  // `key` is this process's own, made at its start.
  Link(EventLoop& loop, Log& log, crypto::KeyPair key, LinkOptions options);
  ~Link();
  Status start();

  bool reachable() const override { return configured_ && daemon_.keeps_up(); }
  void send(peer::LinkType type, uint64_t id, ByteSpan body, uint8_t flags = 0) override;
  uint64_t new_id(SiteId site) override;
  void drop_id(uint64_t id) override { routes_.erase(id); }
  EventLoop& loop() override { return loop_; }
  Log& log() override { return log_; }

  void pairing_over(PairingLine& line) override;

 private:
  // From holdfastd.
  void daemon_connected();
  void daemon_gone();
  Status take(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds);
  Status take_configure(ByteSpan body);
  Status configure(const peer::Configure& wanted);
  Status take_peer(ByteSpan body);
  Status take_peers_end();
  void forget(SiteId site);
  Status take_ask(const peer::LinkMessage& message);
  Status take_open(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds);
  Status take_pair_dial(const peer::LinkMessage& message);
  Status take_of_session(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds);
  PeerLine* line_of(uint64_t id);
  void note_origins();

  // From the network.
  void arrived(std::unique_ptr<TlsChannel> channel, const SocketAddress& address);
  Result<PeerLine*> authenticate(const TlsChannel& channel);
  void arrived_to_pair(std::unique_ptr<TlsChannel> channel, const SocketAddress& address);
  void begin_pairing(uint64_t id, std::unique_ptr<TlsChannel> channel, std::string address);

  EventLoop& loop_;
  Log& log_;
  crypto::KeyPair key_;
  DaemonPort daemon_;
  Lobby lobby_;
  std::optional<SiteId> site_;
  std::string name_;
  std::shared_ptr<const TlsIdentity> identity_;
  bool configured_ = false;  // by the holdfastd that is connected now
  std::map<SiteId, std::unique_ptr<PeerLine>> peers_;
  std::set<SiteId> named_;  // since the last configure
  std::unordered_map<uint64_t, SiteId> routes_;
  uint64_t next_id_ = peer::kLinkIdBit;
  std::map<uint64_t, std::unique_ptr<PairingLine>> pairings_;
  std::map<uint64_t, std::unique_ptr<Dialer>> pairing_dials_;
};

}  // namespace hf::link
