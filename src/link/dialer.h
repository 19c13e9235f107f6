// Connects to the first of some addresses that answers, TLS handshake included. Calls back once,
// unless it is destroyed before.
#pragma once

#include <functional>

#include "link/event_loop.h"
#include "link/socket_address.h"
#include "link/tls_channel.h"

namespace hf::link {

class Dialer final : public Watcher {
 public:
  using Done = std::function<void(Result<std::unique_ptr<TlsChannel>>)>;
  struct Options {
    std::vector<std::string> addresses;  // numeric
    std::string_view alpn;
    Micros limit;  // for each address
  };
  Dialer(EventLoop& loop, std::shared_ptr<const TlsIdentity> identity, Options options, Done done);
  ~Dialer();
  const std::string& address() const { return address_; }  // the one being tried, or the last

  void on_ready(uint32_t events) override;

 private:
  void try_next();
  Status begin();
  void advance();
  void give_up(Error error);
  void close();

  EventLoop& loop_;
  std::shared_ptr<const TlsIdentity> identity_;
  Options options_;
  Done done_;
  CallbackTask task_;
  CallbackTimer limit_;
  size_t next_ = 0;
  std::string address_;
  sys::UniqueFd socket_;                 // until it is connected
  std::unique_ptr<TlsChannel> channel_;  // then
  int watched_ = -1;
  Error last_;
};

}  // namespace hf::link
