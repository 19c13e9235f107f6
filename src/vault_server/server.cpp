#include "vault_server/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "sys/unix_socket.h"

namespace hf::vault_server {

using vault::Caller;
using vault::Listener;

namespace {

// Strangers are turned away many at a time, so that those who wait behind them come soon.
constexpr int kAcceptsMax = 64;
// The longest that a keeper has to say: an endorsement key.
constexpr size_t kKeysBodyMax = vault::kMaxBlob + 64;

}  // namespace

struct Server::Connection {
  sys::UniqueFd fd;
  Listener listener = Listener::kKeys;
  Caller caller;
  Peer peer;
  Micros deadline;  // monotonic: for the request that is awaited, or the reply that is under way
  Bytes request;    // header, then header and body; never more than one frame
  size_t request_filled = 0;
  crypto::Secret reply;  // empty while a request is awaited
  size_t reply_sent = 0;
};

Server::Server(vault::Vault& vault, Clock& clock, Listeners listeners, sys::UniqueFd stop,
               Users users, ServerLimits limits)
    : vault_(vault),
      service_(vault),
      clock_(clock),
      listeners_(std::move(listeners)),
      stop_(std::move(stop)),
      users_(users),
      limits_(limits) {}

Server::~Server() = default;

bool Server::may_speak(Listener listener, const Peer& peer) const {
  const uint32_t uid = peer.uid;
  switch (listener) {
    case Listener::kAdmin:
      return uid == users_.admin;
    case Listener::kKeys:
      return vault_.is_keeper(uid);
    case Listener::kLauncher:
      return uid == users_.launcher;
    case Listener::kOperators:
      if (uid == 0 || uid == users_.operators) return true;
      return peer.in_operators_group && uid != users_.admin && !vault_.may_be_keeper(uid);
  }
  return false;
}

bool Server::make_room(Listener listener, uint32_t uid) {
  if (listener == Listener::kKeys) return make_room_for_keeper(uid);
  const size_t max = listener == Listener::kAdmin      ? limits_.admin_max
                     : listener == Listener::kLauncher ? limits_.launcher_max
                                                       : limits_.operators_max;
  const auto taken = std::ranges::count_if(
      connections_, [&](const auto& connection) { return connection->listener == listener; });
  return static_cast<size_t>(taken) < max;
}

// Once all places are taken, who has the most of them gives up his oldest.
bool Server::make_room_for_keeper(uint32_t uid) {
  std::map<uint32_t, size_t> taken;
  size_t all = 0;
  for (const auto& connection : connections_) {
    if (connection->listener != Listener::kKeys) continue;
    ++taken[connection->caller.uid];
    ++all;
  }
  const size_t own = taken[uid];
  if (own >= limits_.keys_per_uid_max) return false;
  if (all < limits_.keys_max) return true;
  const auto most =
      std::ranges::max_element(taken, {}, [](const auto& of_uid) { return of_uid.second; });
  if (most->second <= own + 1) return false;
  const auto oldest = std::ranges::find_if(connections_, [&](const auto& connection) {
    return connection->listener == Listener::kKeys && connection->caller.uid == most->first;
  });
  connections_.erase(oldest);
  return true;
}

Status Server::accept_all(Listener listener, int fd) {
  for (int i = 0; i < kAcceptsMax; ++i) {
    sys::UniqueFd peer(::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!peer.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) return {};
      if (!sys::is_exhausted(errno)) return errno_error(errno, "accept");
      // Whoever waits there stays readable: polled on, it would be a loop without a pause.
      accepts_from_ = Micros(clock_.monotonic().value + limits_.accept_pause.value);
      return {};
    }
    const Result<sys::PeerCredentials> credentials = sys::peer_credentials(peer.get());
    if (!credentials.ok()) continue;
    Peer who{.uid = credentials->uid};
    if (listener == Listener::kOperators && users_.operators_group) {
      const Result<bool> member = sys::peer_has_group(peer.get(), *users_.operators_group);
      who.in_operators_group = member.ok() && *member;
    }
    // Who may not speak, or has no place, is closed at once.
    if (!may_speak(listener, who) || !make_room(listener, who.uid)) continue;
    auto connection = std::make_unique<Connection>();
    connection->fd = std::move(peer);
    connection->listener = listener;
    connection->peer = who;
    connection->caller = {.uid = credentials->uid, .pid = credentials->pid};
    await_request(*connection);
    connections_.push_back(std::move(connection));
  }
  return {};
}

void Server::await_request(Connection& connection) {
  connection.request.assign(vault::kHeaderSize, std::byte{0});
  connection.request_filled = 0;
  connection.reply = crypto::Secret();
  connection.reply_sent = 0;
  connection.deadline = Micros(clock_.monotonic().value + limits_.request_max.value);
}

bool Server::receive(Connection& connection) {
  while (connection.request_filled < connection.request.size()) {
    const MutableByteSpan rest =
        MutableByteSpan(connection.request).subspan(connection.request_filled);
    const ssize_t count = ::recv(connection.fd.get(), rest.data(), rest.size(), 0);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    if (count == 0) return false;
    connection.request_filled += static_cast<size_t>(count);
    if (connection.request_filled == vault::kHeaderSize) {
      const Result<vault::FrameHeader> header =
          vault::decode_header(ByteSpan(connection.request).first(vault::kHeaderSize));
      // Not our protocol, or beyond a bound: nothing sensible can be answered.
      if (!header.ok() || header->reply) return false;
      if (connection.listener == Listener::kKeys && header->body_length > kKeysBodyMax) {
        return false;
      }
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
  connection.deadline = Micros(clock_.monotonic().value + limits_.reply_max.value);
  return transmit(connection);
}

bool Server::transmit(Connection& connection) {
  while (connection.reply_sent < connection.reply.size()) {
    const ByteSpan rest = connection.reply.span().subspan(connection.reply_sent);
    const ssize_t count = ::send(connection.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    connection.reply_sent += static_cast<size_t>(count);
  }
  await_request(connection);
  return true;
}

bool Server::serve(Connection& connection) {
  return connection.reply.empty() ? receive(connection) : transmit(connection);
}

// Also who was a keeper when he connected and is none any more.
void Server::drop_late() {
  const Micros now = clock_.monotonic();
  std::erase_if(connections_, [&](const auto& connection) {
    return now >= connection->deadline || !may_speak(connection->listener, connection->peer);
  });
}

int Server::timeout_ms() const {
  const uint64_t now = clock_.monotonic().value;
  const bool pauses = now < accepts_from_.value;
  if (connections_.empty() && !pauses) return -1;
  Micros due = pauses ? accepts_from_ : connections_.front()->deadline;
  for (const auto& connection : connections_) due = std::min(due, connection->deadline);
  if (due.value <= now) return 0;
  return static_cast<int>(std::min<uint64_t>((due.value - now) / 1000 + 1, 60'000));
}

Status Server::run() {
  const std::pair<Listener, int> listeners[] = {{Listener::kLauncher, listeners_.launcher.get()},
                                                {Listener::kOperators, listeners_.operators.get()},
                                                {Listener::kAdmin, listeners_.admin.get()},
                                                {Listener::kKeys, listeners_.keys.get()}};
  for (const auto& [listener, fd] : listeners) TRY(sys::set_nonblocking(fd, true));
  constexpr size_t kFixed = 1 + std::size(listeners);  // stop comes first
  std::vector<pollfd> entries;
  for (;;) {
    entries.assign(1, {.fd = stop_.get(), .events = POLLIN, .revents = 0});
    const bool accepts = clock_.monotonic() >= accepts_from_;
    for (const auto& [listener, fd] : listeners) {
      entries.push_back({.fd = accepts ? fd : -1, .events = POLLIN, .revents = 0});
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
    drop_late();
    for (size_t i = 0; i < std::size(listeners); ++i) {
      if (entries[1 + i].revents != 0) {
        TRY(accept_all(listeners[i].first, listeners[i].second));
      }
    }
  }
}

}  // namespace hf::vault_server
