// The listener, and those who came by it and have not said who they are. They cost a descriptor
// until their first byte, and so many seconds at most.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "link/doorkeeper.h"
#include "link/event_loop.h"
#include "link/log.h"
#include "link/tls_channel.h"

namespace hf::link {

struct LobbyOptions {
  DoorLimits limits;
  Micros time_limit = seconds(3);
};

class Lobby final : public Watcher {
 public:
  // Someone's handshake is through; `address` is where from. It stands at the door no longer,
  // unless the connection is refused.
  using Arrived =
      std::function<void(std::unique_ptr<TlsChannel> channel, const SocketAddress& address)>;
  Lobby(EventLoop& loop, Log& log, sys::UniqueFd listener, LobbyOptions options, Arrived arrived);
  ~Lobby();

  // From now on connections are taken; before, they wait in the kernel. use() comes first.
  Status open();
  void use(std::shared_ptr<const TlsIdentity> identity) { identity_ = std::move(identity); }
  void set_known(std::set<Origin> known) { door_.set_known(std::move(known)); }
  // Says why and lets go of it, within the time limit of those at the door.
  void refuse(std::unique_ptr<TlsChannel> channel, const SocketAddress& address,
              ByteSpan last_words);
  size_t waiting() const { return door_.waiting(); }

  void on_ready(uint32_t events) override;  // the listener

 private:
  class Guest;

  void accept_some();
  void pause();
  void work();
  void wants_turn(Guest& guest);
  bool take_in(sys::UniqueFd socket, const SocketAddress& from);
  std::unique_ptr<Guest> remove(Doorkeeper::Ticket ticket);

  EventLoop& loop_;
  Log& log_;
  sys::UniqueFd listener_;
  LobbyOptions options_;
  Arrived arrived_;
  Doorkeeper door_;
  std::shared_ptr<const TlsIdentity> identity_;
  bool watching_ = false;
  std::map<Doorkeeper::Ticket, std::unique_ptr<Guest>> guests_;
  std::list<Doorkeeper::Ticket> turns_;
  CallbackTask work_;
  CallbackTimer resume_;
};

}  // namespace hf::link
