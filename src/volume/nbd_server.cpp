#include "volume/nbd_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace hf::volume {
namespace {

constexpr size_t kPartsMax = 64;
constexpr int kSocketBuffer = 1 << 20;  // bytes: a large piece goes in few steps
constexpr uint64_t kAcceptRetryUs = 100'000;

}  // namespace

// One client. Receives and sends at the same time; what became ready in one turn of the loop is
// sent together.
class NbdServer::Connection final : private NbdSessionOwner, private sys::Task, private sys::Timer {
 public:
  Connection(NbdServer& server, sys::UniqueFd socket)
      : server_(server),
        socket_(std::move(socket)),
        session_(*this, server.export_),
        receive_(*this),
        send_(*this) {
    server_.reactor_.arm(*this, Micros(server_.reactor_.now().value + kHandshakeUs));
  }
  ~Connection() {
    server_.reactor_.disarm(*this);
    server_.reactor_.cancel(*this);
  }

  void start() { pump(); }
  void close() {
    if (gone_) return;
    gone_ = true;
    session_.abandon();
    ::shutdown(socket_.get(), SHUT_RDWR);  // ends what is in flight
    server_.reactor_.cancel_operation(receive_);
    server_.reactor_.cancel_operation(send_);
    pump_soon();
  }

 private:
  class Receive final : public sys::Operation {
   public:
    explicit Receive(Connection& connection) : connection_(connection) {}
    void on_result(int32_t result) override { connection_.on_received(result); }

   private:
    Connection& connection_;
  };
  class Send final : public sys::Operation {
   public:
    explicit Send(Connection& connection) : connection_(connection) {}
    void on_result(int32_t result) override { connection_.on_sent(result); }

   private:
    Connection& connection_;
  };

  void on_session_ready() override { pump_soon(); }
  void run() override { pump(); }
  void on_timer() override {
    if (!session_.in_transmission()) close();
  }

  void pump_soon() {
    if (!queued()) server_.reactor_.defer(*this);
  }

  // Starts whatever can be started; removes the connection when nothing is left of it.
  void pump() {
    if (!gone_ && session_.finished()) close();
    if (gone_) {
      bool busy = receive_.in_flight() || send_.in_flight() || !session_.idle();
      if (!busy) server_.remove(*this);
      return;
    }
    if (!receive_.in_flight()) {
      MutableByteSpan space = session_.input();
      if (!space.empty()) server_.reactor_.receive(socket_.get(), space, receive_);
    }
    if (!send_.in_flight() && session_.has_output()) {
      message_ = {};
      message_.msg_iov = parts_.data();
      message_.msg_iovlen = session_.gather(parts_);
      server_.reactor_.send_message(socket_.get(), message_, send_);
    }
  }

  void on_received(int32_t result) {
    if (gone_) return pump_soon();
    if (result == -EINTR || result == -EAGAIN) return pump_soon();
    if (result <= 0) return close();
    session_.received(static_cast<size_t>(result));
    pump_soon();
  }

  void on_sent(int32_t result) {
    if (gone_) return pump_soon();
    if (result == -EINTR || result == -EAGAIN) return pump_soon();
    if (result <= 0) return close();
    session_.sent(static_cast<size_t>(result));
    pump_soon();
  }

  NbdServer& server_;
  sys::UniqueFd socket_;
  NbdSession session_;
  Receive receive_;
  Send send_;
  std::array<iovec, kPartsMax> parts_{};
  msghdr message_{};
  bool gone_ = false;
};

NbdServer::NbdServer(sys::Reactor& reactor, sys::UniqueFd listener, NbdExport offered)
    : reactor_(reactor),
      listener_(std::move(listener)),
      export_(std::move(offered)),
      accept_(*this),
      retry_(*this) {
  HF_ASSERT(export_.volume != nullptr && export_.name.size() <= nbd::kNameMax);
}

NbdServer::~NbdServer() { HF_ASSERT(stopped() || (connections_.empty() && !accept_.in_flight())); }

void NbdServer::start() { accept_next(); }

void NbdServer::stop() {
  stopping_ = true;
  reactor_.disarm(retry_);
  reactor_.cancel_operation(accept_);
  for (auto& connection : connections_) connection->close();
}

void NbdServer::accept_next() {
  if (!stopping_) reactor_.accept(listener_.get(), accept_);
}

void NbdServer::on_accepted(int32_t result) {
  if (result < 0) {
    if (stopping_) return;
    // Out of descriptors, or a client that left before it was accepted: passes.
    reactor_.arm(retry_, Micros(reactor_.now().value + kAcceptRetryUs));
    return;
  }
  sys::UniqueFd socket(result);
  if (stopping_) return;
  if (connections_.size() < kConnectionsMax) {
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
    connections_.push_back(std::make_unique<Connection>(*this, std::move(socket)));
    connections_.back()->start();
  }
  accept_next();
}

void NbdServer::remove(Connection& connection) {
  std::erase_if(connections_, [&](const auto& owned) { return owned.get() == &connection; });
}

}  // namespace hf::volume
