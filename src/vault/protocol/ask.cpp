#include "vault/protocol/ask.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "sys/unix_socket.h"

namespace hf::vault {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

Error unavailable(const std::string& path, std::string_view why) {
  return Error{
      .code = ErrorCode::kUnavailable,
      .cause = "the vault at " + path + " " + std::string(why),
      .effect = "no key can be had until it answers",
      .mend =
          "try again: it is started anew by itself; if it stays so, run/log/vault.log in the "
          "state directory says why, and holdfast site restart renews it"};
}

// One question, one answer, on a connection of its own.
class Call {
 public:
  explicit Call(const ClientOptions& options)
      : path_(options.socket_path), deadline_(SteadyClock::now() + options.timeout) {}

  Result<crypto::Secret> ask(Op op, ByteSpan body) {
    TRY(open());
    constexpr uint32_t kRequestId = 1;  // one a connection
    TRY(send(encode_request(op, kRequestId, body)));
    std::byte raw[kHeaderSize];
    TRY(receive(raw));
    const FrameHeader header = TRY(decode_header(raw));
    if (!header.reply || header.op != op || header.request_id != kRequestId) {
      return Error{.code = ErrorCode::kCorrupt, .cause = "a vault reply to something else"};
    }
    crypto::Secret reply(header.body_length);
    TRY(receive(reply.mutable_span()));
    return reply;
  }

 private:
  Status open() {
    const sys::SocketPath place = TRY(sys::short_socket_path(path_));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    HF_ASSERT(place.text.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, place.text.data(), place.text.size());
    socket_ = sys::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket_.valid()) return errno_error(errno, "socket");
    for (;;) {
      if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
          0) {
        return {};
      }
      if (errno == EINTR) continue;
      if (errno == EACCES || errno == EPERM)
        return errno_error(errno, "connect to the vault at " + path_);
      if (errno != EAGAIN)
        return unavailable(path_, "is not there: " + std::string(::strerror(errno)));
      // A full backlog: unix sockets cannot be polled for room in it.
      if (SteadyClock::now() >= deadline_) return timed_out();
      std::this_thread::sleep_for(milliseconds(2));
    }
  }

  Status wait_for(short events) {
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(deadline_ - SteadyClock::now()).count();
      if (left <= 0) return timed_out();
      pollfd entry{.fd = socket_.get(), .events = events, .revents = 0};
      const int ready = ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
      if (ready > 0) return {};
      if (ready < 0 && errno != EINTR) return errno_error(errno, "poll");
    }
  }

  Status send(ByteSpan bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count >= 0) {
        bytes = bytes.subspan(static_cast<size_t>(count));
      } else if (errno == EAGAIN) {
        TRY(wait_for(POLLOUT));
      } else if (errno != EINTR) {
        return unavailable(path_, "closed the connection");
      }
    }
    return {};
  }

  Status receive(MutableByteSpan to) {
    while (!to.empty()) {
      const ssize_t count = ::recv(socket_.get(), to.data(), to.size(), 0);
      if (count > 0) {
        to = to.subspan(static_cast<size_t>(count));
      } else if (count == 0) {
        return unavailable(path_, "closed the connection before it answered");
      } else if (errno == EAGAIN) {
        TRY(wait_for(POLLIN));
      } else if (errno != EINTR) {
        return unavailable(path_, "closed the connection");
      }
    }
    return {};
  }

  Error timed_out() const {
    return Error{
        .code = ErrorCode::kTimeout,
        .cause = "the vault at " + path_ + " did not answer in time",
        .effect = "whether it did what was asked is not known",
        .mend = "try again; if it stays so: holdfast site restart, under which VMs run on"};
  }

  std::string path_;
  SteadyClock::time_point deadline_;
  sys::UniqueFd socket_;
};

}  // namespace

Result<crypto::Secret> ask_vault(const ClientOptions& options, Op op, ByteSpan body) {
  return Call(options).ask(op, body);
}

}  // namespace hf::vault
