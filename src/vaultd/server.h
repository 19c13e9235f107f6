// The vault's process loop: two inherited listeners, bounded connections, one thread, poll().
//
// A connection is a strict alternation of request and reply. The peer's uid is the one the kernel
// noted when the connection was made (SO_PEERCRED): it cannot change afterwards, whatever becomes
// of the pid, which goes into the audit log only and decides nothing.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "sys/fd.h"
#include "vault/core/service.h"

namespace hf::vaultd {

struct ServerLimits {
  size_t connections_max = 128;
  size_t connections_per_uid_max = 32;
  Micros idle_max{10'000'000};  // between two bytes from or to a peer
};

class Server {
 public:
  struct Listeners {
    sys::UniqueFd admin;
    sys::UniqueFd keys;
  };

  // `stop` becomes readable when the process is to end (a signalfd, or a pipe in tests).
  Server(vault::Vault& vault, Clock& clock, Listeners listeners, sys::UniqueFd stop,
         uint32_t admin_uid, ServerLimits limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves until `stop` is readable. An error is the operating system's, in poll() or accept().
  Status run();

 private:
  struct Connection;

  Status accept_from(vault::Listener listener, int fd);
  bool admit(vault::Listener listener, const vault::Caller& caller) const;
  // False when the connection is over.
  bool serve(Connection& connection);
  bool receive(Connection& connection);
  bool transmit(Connection& connection);
  bool answer(Connection& connection);
  void drop_idle();
  int timeout_ms() const;

  vault::Service service_;
  Clock& clock_;
  Listeners listeners_;
  sys::UniqueFd stop_;
  uint32_t admin_uid_;
  ServerLimits limits_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace hf::vaultd
