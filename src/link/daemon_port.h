// run/link.sock: the connection with holdfastd. The newest to connect is the one.
#pragma once

#include <deque>
#include <functional>

#include "link/event_loop.h"
#include "peer/link_protocol.h"

namespace hf::link {

class DaemonPort final : public Watcher {
 public:
  struct Handlers {
    std::function<void()> connected;
    std::function<void()> gone;
    // An error ends the connection.
    std::function<Status(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds)> message;
  };
  DaemonPort(EventLoop& loop, sys::UniqueFd listener, Handlers handlers);
  ~DaemonPort();
  Status start();

  bool connected() const { return static_cast<bool>(socket_); }
  // It takes what it is sent.
  bool keeps_up() const;
  // Never waits; what holdfastd does not take is held, and if that is too much it is left.
  void send(peer::LinkType type, uint64_t id, ByteSpan body, uint8_t flags);

  void on_ready(uint32_t events) override;  // the listener

 private:
  class Line final : public Watcher {
   public:
    explicit Line(DaemonPort& port) : port_(port) {}
    void on_ready(uint32_t) override { port_.pump_task_.defer(); }

   private:
    DaemonPort& port_;
  };

  void pause();
  void pump();
  Status read_some();
  Status write_some();
  void drop(std::string_view why);

  EventLoop& loop_;
  sys::UniqueFd listener_;
  Handlers handlers_;
  Line line_;
  CallbackTask pump_task_;
  CallbackTimer resume_;
  sys::UniqueFd socket_;
  std::deque<Bytes> out_;
  size_t out_bytes_ = 0;
  Bytes buffer_;
};

}  // namespace hf::link
