#include "link/lobby.h"

#include <cerrno>

namespace hf::link {
namespace {

constexpr size_t kAcceptsPerTurn = 64;
// A handshake is half a millisecond of signing: those who are authenticated come in between.
constexpr size_t kHandshakesPerTurn = 4;
constexpr size_t kIgnoredMax = size_t{64} << 10;

}  // namespace

class Lobby::Guest final : public Watcher {
 public:
  Guest(Lobby& lobby, Doorkeeper::Ticket ticket, sys::UniqueFd socket, const SocketAddress& address)
      : lobby_(lobby),
        ticket_(ticket),
        address_(address),
        socket_(std::move(socket)),
        fd_(socket_.get()),
        limit_(lobby.loop_, [this] { lobby_.loop_.bury(lobby_.remove(ticket_)); }) {}
  ~Guest() {
    if (watched_) lobby_.loop_.forget(fd_, *this);
  }

  Status start() {
    limit_.arm(lobby_.options_.time_limit);
    TRY(lobby_.loop_.watch(fd_, *this));
    watched_ = true;
    return {};
  }

  // Has been refused: what it still says is not read, until it closes.
  Status start_leaving(std::unique_ptr<TlsChannel> channel, ByteSpan last_words) {
    channel_ = std::move(channel);
    fd_ = channel_->fd();
    leaving_ = true;
    static_cast<void>(channel_->write(last_words));
    channel_->say_goodbye();
    ::shutdown(fd_, SHUT_WR);
    return start();
  }

  void on_ready(uint32_t events) override {
    if ((events & EPOLLIN) == 0 && (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) == 0 && !channel_)
      return;  // writable: that is always so at first
    lobby_.wants_turn(*this);
  }

  // True: it stays.
  bool step() {
    if (leaving_) return ignore();
    // TLS costs memory: only for who says something.
    if (!channel_) channel_ = TlsChannel::server(*lobby_.identity_, std::move(socket_));
    const Result<TlsChannel::Step> step = channel_->handshake();
    if (!step.ok()) {
      lobby_.log_.line(LogKind::kStranger, "a connection from " + to_text(address_) +
                                               " was given up: " + step.error().cause);
      return false;
    }
    if (*step == TlsChannel::Step::kYield) lobby_.wants_turn(*this);
    if (*step != TlsChannel::Step::kDone) return true;
    lobby_.loop_.forget(fd_, *this);
    watched_ = false;
    limit_.disarm();
    lobby_.arrived_(std::move(channel_), address_);
    return false;
  }

  Doorkeeper::Ticket ticket() const { return ticket_; }
  bool has_turn = false;

 private:
  bool ignore() {
    std::byte buffer[4096];
    for (;;) {
      const ssize_t got = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
      ignored_ += static_cast<size_t>(got);
      if (got == 0 || ignored_ > kIgnoredMax) return false;
    }
  }

  Lobby& lobby_;
  const Doorkeeper::Ticket ticket_;
  const SocketAddress address_;
  sys::UniqueFd socket_;
  std::unique_ptr<TlsChannel> channel_;
  int fd_;
  bool watched_ = false;
  bool leaving_ = false;
  size_t ignored_ = 0;
  CallbackTimer limit_;
};

Lobby::Lobby(EventLoop& loop, Log& log, sys::UniqueFd listener, LobbyOptions options,
             Arrived arrived)
    : loop_(loop),
      log_(log),
      listener_(std::move(listener)),
      options_(options),
      arrived_(std::move(arrived)),
      door_(options.limits),
      work_(loop, [this] { work(); }),
      resume_(loop, [this] {
        if (!watching_) watching_ = loop_.watch_level(listener_.get(), *this).ok();
        if (!watching_) resume_.arm(kAcceptPause);
      }) {}

Lobby::~Lobby() {
  if (watching_) loop_.forget(listener_.get(), *this);
  guests_.clear();
}

Status Lobby::open() {
  HF_ASSERT(identity_ != nullptr);
  if (watching_ || !listener_) return {};
  TRY(loop_.watch_level(listener_.get(), *this));
  watching_ = true;
  return {};
}

void Lobby::on_ready(uint32_t) { accept_some(); }

void Lobby::pause() {
  loop_.forget(listener_.get(), *this);
  watching_ = false;
  resume_.arm(kAcceptPause);
}

void Lobby::accept_some() {
  for (size_t i = 0; i < kAcceptsPerTurn; ++i) {
    SocketAddress from;
    sys::UniqueFd socket(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&from.storage),
                                   &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (sys::is_exhausted(errno)) {
        log_.line(LogKind::kStranger, errno_error(errno, "accept a connection").cause);
        pause();
      }
      return;
    }
    if (!take_in(std::move(socket), from)) {
      log_.line(LogKind::kStranger, "a connection from " + to_text(from) +
                                        " was closed: too many from there wait already");
    }
  }
}

bool Lobby::take_in(sys::UniqueFd socket, const SocketAddress& from) {
  const Doorkeeper::Verdict verdict = door_.admit(origin_of(from));
  if (verdict.evicted) loop_.bury(remove(*verdict.evicted));
  if (!verdict.ticket) return false;
  set_tcp_options(socket.get());
  auto guest = std::make_unique<Guest>(*this, *verdict.ticket, std::move(socket), from);
  if (!guest->start().ok()) {
    door_.leave(*verdict.ticket);
    return false;
  }
  guests_[*verdict.ticket] = std::move(guest);
  return true;
}

void Lobby::refuse(std::unique_ptr<TlsChannel> channel, const SocketAddress& address,
                   ByteSpan last_words) {
  const Doorkeeper::Verdict verdict = door_.admit(origin_of(address));
  if (verdict.evicted) loop_.bury(remove(*verdict.evicted));
  if (!verdict.ticket) return;
  auto guest = std::make_unique<Guest>(*this, *verdict.ticket, sys::UniqueFd(), address);
  if (!guest->start_leaving(std::move(channel), last_words).ok())
    return door_.leave(*verdict.ticket);
  guests_[*verdict.ticket] = std::move(guest);
}

std::unique_ptr<Lobby::Guest> Lobby::remove(Doorkeeper::Ticket ticket) {
  door_.leave(ticket);
  const auto at = guests_.find(ticket);
  if (at == guests_.end()) return nullptr;
  std::unique_ptr<Guest> guest = std::move(at->second);
  guests_.erase(at);
  return guest;
}

void Lobby::wants_turn(Guest& guest) {
  if (guest.has_turn) return;
  guest.has_turn = true;
  turns_.push_back(guest.ticket());
  work_.defer();
}

void Lobby::work() {
  for (size_t i = 0; i < kHandshakesPerTurn && !turns_.empty(); ++i) {
    const Doorkeeper::Ticket ticket = turns_.front();
    turns_.pop_front();
    const auto at = guests_.find(ticket);
    if (at == guests_.end()) continue;
    at->second->has_turn = false;
    if (!at->second->step()) loop_.bury(remove(ticket));
  }
  if (!turns_.empty()) work_.defer();
}

}  // namespace hf::link
