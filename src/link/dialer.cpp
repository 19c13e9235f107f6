#include "link/dialer.h"

#include <poll.h>

#include <cerrno>

namespace hf::link {

Dialer::Dialer(EventLoop& loop, std::shared_ptr<const TlsIdentity> identity, Options options,
               Done done)
    : loop_(loop),
      identity_(std::move(identity)),
      options_(std::move(options)),
      done_(std::move(done)),
      task_(loop, [this] { socket_ || channel_ ? advance() : try_next(); }),
      limit_(loop, [this] { give_up({.code = ErrorCode::kTimeout, .cause = "no answer"}); }),
      last_{.code = ErrorCode::kUnavailable, .cause = "its address is not known yet"} {
  task_.defer();
}

Dialer::~Dialer() { close(); }

void Dialer::close() {
  if (watched_ >= 0) loop_.forget(watched_, *this);
  watched_ = -1;
  channel_.reset();
  socket_.reset();
}

void Dialer::give_up(Error error) {
  last_ = std::move(error).context(address_);
  if (last_.code == ErrorCode::kIo) last_.code = ErrorCode::kUnavailable;
  limit_.disarm();
  close();
  task_.defer();
}

void Dialer::try_next() {
  if (next_ == options_.addresses.size()) {
    // What it calls may destroy this.
    const Done done = std::move(done_);
    return done(last_);
  }
  address_ = options_.addresses[next_++];
  limit_.arm(options_.limit);
  if (Status begun = begin(); !begun.ok()) give_up(begun.error());
}

Status Dialer::begin() {
  const SocketAddress to = TRY(parse_address(address_));
  socket_ = TRY(make_tcp_socket(to.family()));
  TRY(loop_.watch(socket_.get(), *this));
  watched_ = socket_.get();
  if (::connect(socket_.get(), to.raw(), to.size) != 0 && errno != EINPROGRESS)
    return errno_error(errno, "connect");
  return {};
}

void Dialer::on_ready(uint32_t) { task_.defer(); }

void Dialer::advance() {
  if (socket_) {
    pollfd poller{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&poller, 1, 0) == 0) return;
    int failure = 0;
    socklen_t size = sizeof failure;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure != 0) return give_up(errno_error(failure, "connect"));
    channel_ = TlsChannel::client(*identity_, std::move(socket_), options_.alpn);
  }
  const Result<TlsChannel::Step> step = channel_->handshake();
  if (!step.ok()) return give_up(step.error());
  if (*step == TlsChannel::Step::kYield) task_.defer();
  if (*step != TlsChannel::Step::kDone) return;
  limit_.disarm();
  loop_.forget(watched_, *this);
  watched_ = -1;
  const Done done = std::move(done_);
  done(std::move(channel_));
}

}  // namespace hf::link
