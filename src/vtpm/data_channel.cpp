#include "vtpm/data_channel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>

namespace hf::vtpm {
namespace {

// An answer is at most 4 KiB and the socket's buffer far larger: a peer that leaves it full for
// this long is gone.
constexpr int kSendLimitMs = 10'000;

enum class Wait { kReady, kStopped, kTimeout };

Wait wait_for(int fd, short events, const StopSignal& stop, int timeout_ms) {
  while (true) {
    pollfd fds[2] = {{.fd = stop.fd(), .events = POLLIN, .revents = 0},
                     {.fd = fd, .events = events, .revents = 0}};
    const int n = ::poll(fds, 2, timeout_ms);
    if (n < 0 && errno == EINTR) continue;
    HF_ASSERT(n >= 0);
    if (fds[0].revents != 0) return Wait::kStopped;
    return n == 0 ? Wait::kTimeout : Wait::kReady;
  }
}

// Nothing when all of `out` was read.
std::optional<DataEnd> read_whole(int fd, MutableByteSpan out, const StopSignal& stop) {
  while (!out.empty()) {
    if (wait_for(fd, POLLIN, stop, -1) == Wait::kStopped) return DataEnd::kStopped;
    const ssize_t n = ::recv(fd, out.data(), out.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return DataEnd::kClosed;
    if (n < 0) return DataEnd::kBroken;
    out = out.subspan(static_cast<size_t>(n));
  }
  return {};
}

std::optional<DataEnd> write_whole(int fd, ByteSpan bytes, const StopSignal& stop) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      const Wait wait = wait_for(fd, POLLOUT, stop, kSendLimitMs);
      if (wait == Wait::kStopped) return DataEnd::kStopped;
      if (wait == Wait::kTimeout) return DataEnd::kBroken;
    } else if (errno == EPIPE || errno == ECONNRESET || errno == ECONNREFUSED) {
      return DataEnd::kClosed;
    } else if (errno != EINTR) {
      return DataEnd::kBroken;
    }
  }
  return {};
}

// 0 for what is no socket.
int socket_option(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : 0;
}

// One message, or why there is none.
struct Message {
  std::optional<DataEnd> end;
  size_t size = 0;
};

Message read_message(int fd, MutableByteSpan out, const StopSignal& stop) {
  while (true) {
    if (wait_for(fd, POLLIN, stop, -1) == Wait::kStopped) return {.end = DataEnd::kStopped};
    const ssize_t n = ::recv(fd, out.data(), out.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return {.end = DataEnd::kClosed};
    if (n < 0) return {.end = DataEnd::kBroken};
    return {.size = static_cast<size_t>(n)};
  }
}

// Where the next command begins is always known: what is no command is answered as such.
DataEnd serve_messages(Engine& engine, int fd, const StopSignal& stop) {
  std::array<std::byte, kTpmBufferMax> buffer;
  while (true) {
    const Message message = read_message(fd, buffer, stop);
    if (message.end) return *message.end;
    const bool fits = message.size <= buffer.size();
    const Result<Bytes> response = fits ? engine.process(ByteSpan(buffer).first(message.size))
                                        : Result<Bytes>(status_response(kRcCommandSize));
    if (!response.ok()) return DataEnd::kFatal;
    if (const auto end = write_whole(fd, *response, stop)) return *end;
  }
}

}  // namespace

// By what a keeper's sandbox lets it ask.
bool can_serve_data(int fd) {
  const int type = socket_option(fd, SO_TYPE);
  if (type != SOCK_STREAM && type != SOCK_SEQPACKET && type != SOCK_DGRAM) return false;
  if (socket_option(fd, SO_ACCEPTCONN) != 0) return false;
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid != static_cast<uid_t>(-1);  // there is none
}

StopSignal::StopSignal() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { HF_ASSERT(fd_.valid()); }

void StopSignal::signal() {
  const uint64_t one = 1;
  const ssize_t n = ::write(fd_.get(), &one, sizeof one);
  HF_ASSERT(n == sizeof one || errno == EAGAIN);
}

DataEnd serve_data(Engine& engine, int fd, const StopSignal& stop) {
  if (socket_option(fd, SO_TYPE) != SOCK_STREAM) return serve_messages(engine, fd, stop);
  std::array<std::byte, kTpmBufferMax> buffer;
  const MutableByteSpan all(buffer);
  while (true) {
    if (const auto end = read_whole(fd, all.first(kTpmHeaderSize), stop)) return *end;
    const size_t size = load_be<uint32_t>(buffer.data() + 2);
    if (size < kTpmHeaderSize || size > kTpmBufferMax) {
      // Where the next command would begin cannot be known.
      write_whole(fd, status_response(kRcCommandSize), stop);
      return DataEnd::kBroken;
    }
    const MutableByteSpan parameters = all.subspan(kTpmHeaderSize, size - kTpmHeaderSize);
    if (const auto end = read_whole(fd, parameters, stop)) return *end;
    const Result<Bytes> response = engine.process(all.first(size));
    if (!response.ok()) return DataEnd::kFatal;
    if (const auto end = write_whole(fd, *response, stop)) return *end;
  }
}

}  // namespace hf::vtpm
