// The vault's process loop: four inherited listeners, bounded connections, one thread, poll().
//
// A connection is a strict alternation of request and reply. The peer's uid is the one the kernel
// noted when the connection was made (SO_PEERCRED): it cannot change afterwards, whatever becomes
// of the pid, which goes into the audit log only and decides nothing.
//
// Anyone on the host may connect to "keys". Who is no keeper is closed before he takes a place; a
// keeper has so many places and no more; daemon, launcher and operators have their own. A whole
// request must have come within a time, however it trickles: so nobody can keep others out.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "sys/fd.h"
#include "vault/core/service.h"

namespace hf::vault_server {

struct ServerLimits {
  size_t admin_max = 32;
  size_t launcher_max = 4;
  size_t operators_max = 8;
  size_t keys_max = 192;
  size_t keys_per_uid_max = 32;
  Micros request_max{5'000'000};  // from the connection, or the reply before, to a whole request
  Micros reply_max{5'000'000};    // to take a whole reply
  Micros accept_pause{100'000};   // without descriptors or memory left
};

class Server {
 public:
  struct Listeners {
    sys::UniqueFd admin;
    sys::UniqueFd keys;
    sys::UniqueFd launcher;
    sys::UniqueFd operators;
  };
  struct Users {
    uint32_t admin = 0;
    uint32_t launcher = 0;
    uint32_t operators = 0;  // besides root
    // And who is in it, but the daemon and keepers, who have other offices.
    std::optional<uint32_t> operators_group = {};
  };

  // `stop` becomes readable when the process is to end (a signalfd, or a pipe in tests).
  Server(vault::Vault& vault, Clock& clock, Listeners listeners, sys::UniqueFd stop, Users users,
         ServerLimits limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves until `stop` is readable. An error is the operating system's, in poll() or accept().
  Status run();

 private:
  struct Peer {
    uint32_t uid = 0;
    bool in_operators_group = false;
  };
  struct Connection;

  Status accept_all(vault::Listener listener, int fd);
  bool may_speak(vault::Listener listener, const Peer& peer) const;
  bool make_room(vault::Listener listener, uint32_t uid);
  bool make_room_for_keeper(uint32_t uid);
  // False when the connection is over.
  bool serve(Connection& connection);
  bool receive(Connection& connection);
  bool transmit(Connection& connection);
  bool answer(Connection& connection);
  void await_request(Connection& connection);
  void drop_late();
  int timeout_ms() const;

  vault::Vault& vault_;
  vault::Service service_;
  Clock& clock_;
  Listeners listeners_;
  sys::UniqueFd stop_;
  Users users_;
  ServerLimits limits_;
  std::vector<std::unique_ptr<Connection>> connections_;  // oldest first
  Micros accepts_from_;                                   // the listeners are left alone until then
};

}  // namespace hf::vault_server
