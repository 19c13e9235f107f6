#include "vaultd/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "sys/unix_socket.h"

namespace hf::vaultd {

using vault::Caller;
using vault::Listener;

struct Server::Connection {
  sys::UniqueFd fd;
  Listener listener = Listener::kKeys;
  Caller caller;
  Micros last_progress;
  Bytes request;  // header, then header and body; never more than one frame
  size_t request_filled = 0;
  crypto::Secret reply;  // empty while a request is awaited
  size_t reply_sent = 0;

  void await_request() {
    request.assign(vault::kHeaderSize, std::byte{0});
    request_filled = 0;
    reply = crypto::Secret();
    reply_sent = 0;
  }
};

Server::Server(vault::Vault& vault, Clock& clock, Listeners listeners, sys::UniqueFd stop,
               uint32_t admin_uid, ServerLimits limits)
    : service_(vault),
      clock_(clock),
      listeners_(std::move(listeners)),
      stop_(std::move(stop)),
      admin_uid_(admin_uid),
      limits_(limits) {}

Server::~Server() = default;

bool Server::admit(Listener listener, const Caller& caller) const {
  if (listener == Listener::kAdmin && caller.uid != admin_uid_) return false;
  if (connections_.size() >= limits_.connections_max) return false;
  const auto of_uid = std::count_if(connections_.begin(), connections_.end(),
                                    [&](const auto& c) { return c->caller.uid == caller.uid; });
  return static_cast<size_t>(of_uid) < limits_.connections_per_uid_max;
}

Status Server::accept_from(Listener listener, int fd) {
  sys::UniqueFd peer(::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!peer.valid()) {
    const bool passing = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ||
                         errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    return passing ? Status() : errno_error(errno, "accept");
  }
  const Result<sys::PeerCredentials> credentials = sys::peer_credentials(peer.get());
  if (!credentials.ok()) return {};
  auto connection = std::make_unique<Connection>();
  connection->listener = listener;
  connection->caller = {.uid = credentials->uid, .pid = credentials->pid};
  connection->last_progress = clock_.monotonic();
  connection->await_request();
  if (!admit(listener, connection->caller)) return {};  // closed at once
  connection->fd = std::move(peer);
  connections_.push_back(std::move(connection));
  return {};
}

bool Server::receive(Connection& connection) {
  while (connection.request_filled < connection.request.size()) {
    const MutableByteSpan rest =
        MutableByteSpan(connection.request).subspan(connection.request_filled);
    const ssize_t count = ::recv(connection.fd.get(), rest.data(), rest.size(), 0);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    if (count == 0) return false;
    connection.request_filled += static_cast<size_t>(count);
    connection.last_progress = clock_.monotonic();
    if (connection.request_filled == vault::kHeaderSize) {
      const Result<vault::FrameHeader> header =
          vault::decode_header(ByteSpan(connection.request).first(vault::kHeaderSize));
      // Not our protocol, or beyond a bound: nothing sensible can be answered.
      if (!header.ok() || header->reply) return false;
      connection.request.resize(vault::kHeaderSize + header->body_length);
    }
  }
  return answer(connection);
}

bool Server::answer(Connection& connection) {
  const ByteSpan frame = connection.request;
  const Result<vault::FrameHeader> header = vault::decode_header(frame.first(vault::kHeaderSize));
  HF_ASSERT(header.ok());
  connection.reply = service_.answer(connection.listener, connection.caller, *header,
                                     frame.subspan(vault::kHeaderSize));
  connection.reply_sent = 0;
  return transmit(connection);
}

bool Server::transmit(Connection& connection) {
  while (connection.reply_sent < connection.reply.size()) {
    const ByteSpan rest = connection.reply.span().subspan(connection.reply_sent);
    const ssize_t count = ::send(connection.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    connection.reply_sent += static_cast<size_t>(count);
    connection.last_progress = clock_.monotonic();
  }
  connection.await_request();
  return true;
}

bool Server::serve(Connection& connection) {
  return connection.reply.empty() ? receive(connection) : transmit(connection);
}

void Server::drop_idle() {
  const Micros now = clock_.monotonic();
  std::erase_if(connections_, [&](const auto& connection) {
    return now.value - connection->last_progress.value >= limits_.idle_max.value;
  });
}

int Server::timeout_ms() const {
  if (connections_.empty()) return -1;
  Micros oldest = connections_.front()->last_progress;
  for (const auto& connection : connections_) oldest = std::min(oldest, connection->last_progress);
  const uint64_t due = oldest.value + limits_.idle_max.value;
  const uint64_t now = clock_.monotonic().value;
  return due <= now ? 0 : static_cast<int>(std::min<uint64_t>((due - now) / 1000 + 1, 60'000));
}

Status Server::run() {
  TRY(sys::set_nonblocking(listeners_.admin.get(), true));
  TRY(sys::set_nonblocking(listeners_.keys.get(), true));
  constexpr size_t kFixed = 3;  // stop, admin, keys
  std::vector<pollfd> entries;
  for (;;) {
    entries.clear();
    for (const int fd : {stop_.get(), listeners_.admin.get(), listeners_.keys.get()}) {
      entries.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    }
    for (const auto& connection : connections_) {
      const short events = connection->reply.empty() ? POLLIN : POLLOUT;
      entries.push_back({.fd = connection->fd.get(), .events = events, .revents = 0});
    }
    if (::poll(entries.data(), entries.size(), timeout_ms()) < 0 && errno != EINTR) {
      return errno_error(errno, "poll");
    }
    if (entries[0].revents != 0) return {};
    // From the end, so that erasing does not shift what is still to be looked at.
    for (size_t i = connections_.size(); i-- > 0;) {
      if (entries[kFixed + i].revents != 0 && !serve(*connections_[i])) {
        connections_.erase(connections_.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    drop_idle();
    if (entries[1].revents != 0) TRY(accept_from(Listener::kAdmin, entries[1].fd));
    if (entries[2].revents != 0) TRY(accept_from(Listener::kKeys, entries[2].fd));
  }
}

}  // namespace hf::vaultd
