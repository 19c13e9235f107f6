// Clients of an inherited unix listener, served on the reactor: the scaffolding of the control and
// ship sockets. One thread, the reactor's.
//
// A connection receives into a fixed buffer and sends one answer at a time. A client that sends
// while its answer is pending is not read until the answer is gone: that bounds what a client can
// make the keeper hold.
#pragma once

#include <functional>
#include <list>
#include <memory>

#include "sys/reactor.h"

namespace hf::keeper {

class LocalServer;

class LocalConnection {
 public:
  virtual ~LocalConnection() = default;
  LocalConnection(const LocalConnection&) = delete;
  LocalConnection& operator=(const LocalConnection&) = delete;

 protected:
  LocalConnection(LocalServer& server, sys::UniqueFd socket);

  // Bytes from the client. Answer now or later, with exactly one send() or fail(), or call
  // receive_more() if the request is not whole.
  virtual void on_received(ByteSpan bytes) = 0;
  // The connection is going: forget it wherever it waits. Nothing may be called on it afterwards.
  virtual void on_closing() {}

  void send(Bytes answer);  // then receives again
  void receive_more();
  void fail();  // closes
  LocalServer& server() { return server_; }

 private:
  friend class LocalServer;
  class Receive final : public sys::Operation {
   public:
    explicit Receive(LocalConnection& owner) : owner_(owner) {}
    void on_result(int32_t result) override { owner_.on_receive_result(result); }
    LocalConnection& owner_;
  };
  class Send final : public sys::Operation {
   public:
    explicit Send(LocalConnection& owner) : owner_(owner) {}
    void on_result(int32_t result) override { owner_.on_send_result(result); }
    LocalConnection& owner_;
  };
  void on_receive_result(int32_t result);
  void on_send_result(int32_t result);
  void continue_sending();
  bool busy() const { return receive_.in_flight() || send_.in_flight(); }

  LocalServer& server_;
  sys::UniqueFd socket_;
  Receive receive_;
  Send send_;
  std::array<std::byte, 4096> buffer_;
  Bytes answer_;
  size_t sent_ = 0;
  bool closing_ = false;
};

class LocalServer {
 public:
  using Factory = std::function<std::unique_ptr<LocalConnection>(LocalServer&, sys::UniqueFd)>;

  LocalServer(sys::Reactor& reactor, sys::UniqueFd listener, size_t connections_max,
              Factory factory);
  ~LocalServer();  // asserts stopped()

  void start();
  // Accepts nobody any more and closes all. stopped() becomes true as the loop turns.
  void stop();
  bool stopped() const { return stopping_ && connections_.empty() && !accept_.in_flight(); }
  sys::Reactor& reactor() { return reactor_; }

 private:
  friend class LocalConnection;
  class Accept final : public sys::Operation {
   public:
    explicit Accept(LocalServer& owner) : owner_(owner) {}
    void on_result(int32_t result) override { owner_.on_accept_result(result); }
    LocalServer& owner_;
  };
  class Reap final : public sys::Task {
   public:
    explicit Reap(LocalServer& owner) : owner_(owner) {}
    void run() override { owner_.reap(); }
    LocalServer& owner_;
  };
  class Retry final : public sys::Timer {
   public:
    explicit Retry(LocalServer& owner) : owner_(owner) {}
    void on_timer() override { owner_.start(); }
    LocalServer& owner_;
  };
  void on_accept_result(int32_t result);
  void close(LocalConnection& connection);
  void reap_soon();
  void reap();

  sys::Reactor& reactor_;
  sys::UniqueFd listener_;
  const size_t connections_max_;
  Factory factory_;
  Accept accept_;
  Reap reap_;
  Retry retry_;
  std::list<std::unique_ptr<LocalConnection>> connections_;
  bool stopping_ = false;
};

}  // namespace hf::keeper
