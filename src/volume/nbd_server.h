// The NBD server: a listener that was handed down, and its connections, on the reactor.
#pragma once

#include <list>
#include <memory>

#include "sys/reactor.h"
#include "volume/nbd_session.h"

namespace hf::volume {

class NbdServer {
 public:
  static constexpr size_t kConnectionsMax = 32;         // one more is closed at once
  static constexpr uint64_t kHandshakeUs = 10'000'000;  // then a client that only talks is closed

  NbdServer(sys::Reactor& reactor, sys::UniqueFd listener, NbdExport offered);
  ~NbdServer();  // asserts stopped()

  void start();
  // Accepts nobody any more and closes every connection; requests in the volume are waited for.
  // stopped() becomes true as the loop turns. The listener is only our copy: clients can still
  // connect, and wait for who serves next.
  void stop();
  bool stopped() const { return stopping_ && connections_.empty() && !accept_.in_flight(); }
  size_t connections() const { return connections_.size(); }

 private:
  class Connection;
  class Accept final : public sys::Operation {
   public:
    explicit Accept(NbdServer& server) : server_(server) {}
    void on_result(int32_t result) override { server_.on_accepted(result); }

   private:
    NbdServer& server_;
  };
  class RetryTimer final : public sys::Timer {
   public:
    explicit RetryTimer(NbdServer& server) : server_(server) {}
    void on_timer() override { server_.accept_next(); }

   private:
    NbdServer& server_;
  };

  void accept_next();
  void on_accepted(int32_t result);
  void remove(Connection& connection);

  sys::Reactor& reactor_;
  sys::UniqueFd listener_;
  NbdExport export_;
  Accept accept_;
  RetryTimer retry_;
  std::list<std::unique_ptr<Connection>> connections_;
  bool stopping_ = false;
};

}  // namespace hf::volume
