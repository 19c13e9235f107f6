#include "link/daemon_port.h"

#include <sys/socket.h>

#include <cerrno>

#include "sys/unix_socket.h"

namespace hf::link {
namespace {

constexpr size_t kMessagesPerTurn = 64;
constexpr size_t kLagging = size_t{8} << 20;   // no new questions are brought to it
constexpr size_t kHeldMax = size_t{64} << 20;  // then it is as good as dead

bool would_block(int error_number) { return error_number == EAGAIN || error_number == EWOULDBLOCK; }

}  // namespace

DaemonPort::DaemonPort(EventLoop& loop, sys::UniqueFd listener, Handlers handlers)
    : loop_(loop),
      listener_(std::move(listener)),
      handlers_(std::move(handlers)),
      line_(*this),
      pump_task_(loop, [this] { pump(); }),
      resume_(loop,
              [this] {
                if (!start().ok()) resume_.arm(kAcceptPause);
              }),
      buffer_(peer::kLinkMessageMax) {}

DaemonPort::~DaemonPort() {
  if (socket_) loop_.forget(socket_.get(), line_);
  loop_.forget(listener_.get(), *this);
}

Status DaemonPort::start() { return loop_.watch_level(listener_.get(), *this); }

bool DaemonPort::keeps_up() const { return connected() && out_bytes_ < kLagging; }

void DaemonPort::on_ready(uint32_t) {
  sys::UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return sys::is_exhausted(errno) ? pause() : void();
  if (socket_) drop("another holdfastd has connected");
  socket_ = std::move(socket);
  if (!loop_.watch(socket_.get(), line_).ok()) return socket_.reset();
  handlers_.connected();
  pump_task_.defer();
}

void DaemonPort::pause() {
  loop_.forget(listener_.get(), *this);
  resume_.arm(kAcceptPause);
}

void DaemonPort::drop(std::string_view) {
  if (!socket_) return;
  loop_.forget(socket_.get(), line_);
  socket_.reset();
  out_.clear();
  out_bytes_ = 0;
  handlers_.gone();
}

void DaemonPort::send(peer::LinkType type, uint64_t id, ByteSpan body, uint8_t flags) {
  if (!socket_) return;
  out_.push_back(peer::encode_link_message(type, id, body, flags));
  out_bytes_ += out_.back().size();
  // Sent, or given up, from the loop: whoever calls is in the middle of something.
  pump_task_.defer();
}

void DaemonPort::pump() {
  if (!socket_) return;
  Status status = write_some();
  if (status.ok()) status = read_some();
  if (!status.ok()) drop(status.error().cause);
}

Status DaemonPort::write_some() {
  while (!out_.empty()) {
    const ssize_t put = ::send(socket_.get(), out_.front().data(), out_.front().size(),
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && would_block(errno)) break;
    if (put < 0) return errno_error(errno, "write to holdfastd");
    out_bytes_ -= out_.front().size();
    out_.pop_front();
  }
  if (out_bytes_ <= kHeldMax) return {};
  return Error{.code = ErrorCode::kUnavailable, .cause = "holdfastd takes no messages"};
}

Status DaemonPort::read_some() {
  for (size_t i = 0; i < kMessagesPerTurn; ++i) {
    Result<sys::ReceivedMessage> received = sys::receive_with_fds(socket_.get(), buffer_);
    if (!received.ok() && received.error().code == ErrorCode::kTimeout) return {};
    if (!received.ok()) return received.error();
    if (received->size == 0)
      return Error{.code = ErrorCode::kUnavailable, .cause = "holdfastd has closed the connection"};
    if (received->truncated)
      return Error{.code = ErrorCode::kCorrupt, .cause = "a message that is too long"};
    const peer::LinkMessage message =
        TRY(peer::decode_link_message(ByteSpan(buffer_).first(received->size)));
    TRY(handlers_.message(message, std::move(received->fds)));
    if (!socket_) return {};
  }
  pump_task_.defer();
  return {};
}

}  // namespace hf::link
