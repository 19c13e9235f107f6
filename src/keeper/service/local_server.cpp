#include "keeper/service/local_server.h"

#include <algorithm>

namespace hf::keeper {
namespace {

constexpr uint64_t kAcceptRetryUs = 100'000;

}  // namespace

LocalConnection::LocalConnection(LocalServer& server, sys::UniqueFd socket)
    : server_(server), socket_(std::move(socket)), receive_(*this), send_(*this) {}

void LocalConnection::receive_more() {
  HF_ASSERT(!busy());
  if (closing_) return;
  server_.reactor().receive(socket_.get(), buffer_, receive_);
}

void LocalConnection::on_receive_result(int32_t result) {
  if (closing_ || result <= 0) {
    server_.close(*this);
    return;
  }
  on_received(ByteSpan(buffer_).first(static_cast<size_t>(result)));
}

void LocalConnection::send(Bytes answer) {
  HF_ASSERT(!busy());
  if (closing_) return;
  answer_ = std::move(answer);
  sent_ = 0;
  continue_sending();
}

void LocalConnection::continue_sending() {
  server_.reactor().send(socket_.get(), ByteSpan(answer_).subspan(sent_), send_);
}

void LocalConnection::on_send_result(int32_t result) {
  if (closing_ || result <= 0) {
    server_.close(*this);
    return;
  }
  sent_ += static_cast<size_t>(result);
  if (sent_ < answer_.size()) {
    continue_sending();
  } else {
    receive_more();
  }
}

void LocalConnection::fail() { server_.close(*this); }

LocalServer::LocalServer(sys::Reactor& reactor, sys::UniqueFd listener, size_t connections_max,
                         Factory factory)
    : reactor_(reactor),
      listener_(std::move(listener)),
      connections_max_(connections_max),
      factory_(std::move(factory)),
      accept_(*this),
      reap_(*this),
      retry_(*this) {}

LocalServer::~LocalServer() {
  HF_ASSERT(!accept_.in_flight() && connections_.empty());
  reactor_.cancel(reap_);
}

void LocalServer::start() { reactor_.accept(listener_.get(), accept_); }

void LocalServer::on_accept_result(int32_t result) {
  if (stopping_) {
    if (result >= 0) sys::UniqueFd(result).reset();
    return;
  }
  // Out of descriptors, or a client that left before it was accepted: passes.
  if (result < 0) return reactor_.arm(retry_, Micros(reactor_.now().value + kAcceptRetryUs));
  sys::UniqueFd socket(result);
  if (connections_.size() < connections_max_) {
    connections_.push_back(factory_(*this, std::move(socket)));
    connections_.back()->receive_more();
  }
  start();
}

void LocalServer::close(LocalConnection& connection) {
  if (!connection.closing_) {
    connection.closing_ = true;
    connection.on_closing();
    if (connection.receive_.in_flight()) reactor_.cancel_operation(connection.receive_);
    if (connection.send_.in_flight()) reactor_.cancel_operation(connection.send_);
  }
  reap_soon();
}

void LocalServer::reap_soon() {
  if (!reap_.queued()) reactor_.defer(reap_);
}

void LocalServer::reap() {
  std::erase_if(connections_,
                [](const auto& connection) { return connection->closing_ && !connection->busy(); });
}

void LocalServer::stop() {
  if (stopping_) return;
  stopping_ = true;
  reactor_.disarm(retry_);
  if (accept_.in_flight()) reactor_.cancel_operation(accept_);
  for (auto& connection : connections_) close(*connection);
}

}  // namespace hf::keeper
