// One first contact: messages of a connection with a site that is not trusted, to holdfastd and
// back. Few, small and short-lived; whoever sends more, before or after its end, is cut off.
#pragma once

#include <deque>

#include "link/socket_address.h"
#include "link/tls_channel.h"
#include "link/uplink.h"

namespace hf::link {

class PairingLine;

class PairingOwner {
 public:
  // The last call about it; the owner buries it.
  virtual void pairing_over(PairingLine& line) = 0;

 protected:
  ~PairingOwner() = default;
};

class PairingLine final : public Watcher {
 public:
  PairingLine(Uplink& uplink, PairingOwner& owner, uint64_t id, std::unique_ptr<TlsChannel> channel,
              std::string address);
  ~PairingLine();
  Status start();  // tells holdfastd of it

  uint64_t id() const { return id_; }
  bool incoming() const { return !channel_->is_client(); }
  void send(ByteSpan message);
  // Once what was sent is out; holdfastd is not told.
  void close();
  void end(const Error& why);  // at once; holdfastd is told

  void on_ready(uint32_t events) override;

 private:
  void pump();
  Status read_some();
  Status write_some();
  void over();

  Uplink& uplink_;
  PairingOwner& owner_;
  const uint64_t id_;
  std::unique_ptr<TlsChannel> channel_;
  const std::string address_;
  CallbackTask pump_task_;
  CallbackTimer limit_;
  bool watched_ = false;
  bool closing_ = false;
  bool shut_ = false;
  bool over_ = false;
  size_t messages_in_ = 0;
  uint64_t received_max_;
  Bytes in_;
  Bytes out_;
};

}  // namespace hf::link
