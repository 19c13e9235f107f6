// The ship socket: replication frames to and from the peer's keeper, as they come through the
// links. One stream at a time; the newest wins, for whoever opens one believes the older dead.
//
// One thread, the reactor's. A stream receives into a buffer that it has only while it is open, and
// its frames are handed on one by one. What is to be sent waits in order; how much that may be is
// the handler's business (the sender's window, the receiver's short answers).
#pragma once

#include <deque>
#include <list>
#include <memory>

#include "replication/wire.h"
#include "sys/reactor.h"

namespace hf::keeper {

// From inside the socket's own callbacks; each may call send() and end().
class ShipHandler {
 public:
  virtual void on_ship_open() = 0;
  // Valid until it returns.
  virtual void on_ship_frame(const replication::Frame& frame) = 0;
  // The other side closed it, it broke, or a newer one came. Not after end().
  virtual void on_ship_closed(Error reason) = 0;

 protected:
  ~ShipHandler() = default;
};

class ShipSocket {
 public:
  ShipSocket(sys::Reactor& reactor, sys::UniqueFd listener, ShipHandler& handler);
  ~ShipSocket();  // asserts stopped()

  void start();
  void stop();  // takes nobody any more and closes all; stopped() as the loop turns
  bool stopped() const;

  bool open() const { return current_ != nullptr; }
  void send(Bytes frame);  // dropped without a stream
  // Closes the stream once what was sent is out and the other side has closed, or after
  // kLastWordsUs.
  void end();
  // Gives memory back that only a busy stream needs.
  void trim();

  static constexpr uint64_t kLastWordsUs = 2'000'000;

 private:
  class Stream;
  class Accept final : public sys::Operation {
   public:
    explicit Accept(ShipSocket& owner) : owner_(owner) {}
    void on_result(int32_t result) override { owner_.on_accept_result(result); }
    ShipSocket& owner_;
  };
  class Reap final : public sys::Task {
   public:
    explicit Reap(ShipSocket& owner) : owner_(owner) {}
    void run() override { owner_.reap(); }
    ShipSocket& owner_;
  };
  class Retry final : public sys::Timer {
   public:
    explicit Retry(ShipSocket& owner) : owner_(owner) {}
    void on_timer() override { owner_.start(); }
    ShipSocket& owner_;
  };
  void on_accept_result(int32_t result);
  void on_stream_lost(Stream& stream, Error reason);
  void reap_soon();
  void reap();

  sys::Reactor& reactor_;
  sys::UniqueFd listener_;
  ShipHandler& handler_;
  Accept accept_{*this};
  Reap reap_{*this};
  Retry retry_{*this};
  Stream* current_ = nullptr;
  std::list<std::unique_ptr<Stream>> streams_;  // the current one, and those at their end
  bool stopping_ = false;
};

}  // namespace hf::keeper
