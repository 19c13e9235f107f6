#include "sys/bounded_io.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace hf::sys {
namespace {

using std::chrono::milliseconds;
using Deadline = std::chrono::steady_clock::time_point;

Deadline deadline_after(milliseconds limit) { return std::chrono::steady_clock::now() + limit; }

// Rounded up, so that a wait does not spin through the last part of a millisecond.
milliseconds left_until(Deadline deadline) {
  auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  return std::max(left, milliseconds(0));
}

bool would_block(int error_number) { return error_number == EAGAIN || error_number == EWOULDBLOCK; }

Status wait_until(int fd, short events, Deadline deadline, std::string_view doing) {
  bool ready = TRY(wait_ready(fd, events, left_until(deadline)));
  if (ready) return {};
  return Error{.code = ErrorCode::kTimeout, .cause = std::string(doing) + ": no answer in time"};
}

Error peer_error(int error_number, std::string_view doing) {
  Error error = errno_error(error_number, doing);
  if (error_number == EPIPE || error_number == ECONNRESET) error.code = ErrorCode::kUnavailable;
  return error;
}

}  // namespace

Result<bool> wait_ready(int fd, short events, milliseconds limit) {
  Deadline deadline = deadline_after(limit);
  pollfd poller{.fd = fd, .events = events, .revents = 0};
  while (true) {
    int ready = ::poll(&poller, 1, static_cast<int>(left_until(deadline).count()));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return errno_error(errno, "wait for a descriptor");
  }
}

namespace {

// The socket itself, wherever the names lead from now on. Nothing on the way may be a link: below
// STATE/run a VM's users might have made it, to another VM's socket.
Result<UniqueFd> find_socket(const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  do {
    fd = ::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how);
  } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
  if (fd < 0) {
    int why = errno;
    Error error = errno_error(why, "connect to " + path);
    if (why == ENOENT) error.code = ErrorCode::kUnavailable;
    if (why == ELOOP) {
      error = {.code = ErrorCode::kPermission,
               .cause = "connect to " + path + ": there is a symbolic link in the path",
               .effect = "it was not followed",
               .mend = "use the path without links: realpath " + path};
    }
    return error;
  }
  UniqueFd found(static_cast<int>(fd));
  struct stat status{};
  if (::fstat(found.get(), &status) != 0) return errno_error(errno, "look at " + path);
  if (!S_ISSOCK(status.st_mode)) {
    return Error{.code = ErrorCode::kPermission, .cause = path + " is not a socket"};
  }
  return found;
}

}  // namespace

Result<UniqueFd> connect_unix_within(const std::string& path, milliseconds limit, SocketType type) {
  UniqueFd found = TRY(find_socket(path));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string through = "/proc/self/fd/" + std::to_string(found.get());
  std::memcpy(static_cast<char*>(address.sun_path), through.data(), through.size());
  int kind = type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET;
  UniqueFd fd(::socket(AF_UNIX, kind | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error(errno, "make a socket");
  // connect() waits only for room in the listener's backlog, and SO_SNDTIMEO bounds that.
  auto whole = static_cast<unsigned>(std::max<int64_t>(1, limit.count()));
  TRY(set_socket_timeouts(fd.get(), whole));
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    Error error = errno_error(errno, "connect to " + path);
    if (would_block(errno)) error.code = ErrorCode::kTimeout;
    if (errno == ECONNREFUSED) error.code = ErrorCode::kUnavailable;
    return error;
  }
  TRY(set_socket_timeouts(fd.get(), 0));
  return fd;
}

Status send_message(int fd, ByteSpan data, const std::vector<int>& fds, milliseconds limit) {
  if (fds.size() > kPassedFdsMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "too many descriptors for one message"};
  }
  Deadline deadline = deadline_after(limit);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kPassedFdsMax)> control{};
  iovec part{.iov_base = const_cast<std::byte*>(data.data()), .iov_len = data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  while (true) {
    ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return {};
    if (errno == EINTR) continue;
    if (!would_block(errno)) return peer_error(errno, "send a message");
    TRY(wait_until(fd, POLLOUT, deadline, "send a message"));
  }
}

Result<Message> receive_message(int fd, size_t bytes_max, milliseconds limit) {
  Deadline deadline = deadline_after(limit);
  Message received;
  received.data.resize(bytes_max);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kPassedFdsMax)> control{};
  iovec part{.iov_base = received.data.data(), .iov_len = received.data.size()};
  msghdr message{};
  ssize_t length = -1;
  while (true) {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    length = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (length >= 0) break;
    if (errno == EINTR) continue;
    if (!would_block(errno)) return peer_error(errno, "receive a message");
    TRY(wait_until(fd, POLLIN, deadline, "receive a message"));
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int passed = -1;
      std::memcpy(&passed, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      received.fds.emplace_back(passed);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return Error{.code = ErrorCode::kLimit, .cause = "a message longer than allowed"};
  }
  received.data.resize(static_cast<size_t>(length));
  return received;
}

Status send_all(int fd, ByteSpan data, milliseconds limit) {
  Deadline deadline = deadline_after(limit);
  while (!data.empty()) {
    ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      data = data.subspan(static_cast<size_t>(sent));
    } else if (would_block(errno)) {
      TRY(wait_until(fd, POLLOUT, deadline, "write to a socket"));
    } else if (errno != EINTR) {
      return peer_error(errno, "write to a socket");
    }
  }
  return {};
}

Result<size_t> receive_some(int fd, MutableByteSpan out, milliseconds limit) {
  Deadline deadline = deadline_after(limit);
  while (true) {
    ssize_t got = ::recv(fd, out.data(), out.size(), MSG_DONTWAIT);
    if (got >= 0) return static_cast<size_t>(got);
    if (would_block(errno)) {
      TRY(wait_until(fd, POLLIN, deadline, "read from a socket"));
    } else if (errno != EINTR) {
      return peer_error(errno, "read from a socket");
    }
  }
}

}  // namespace hf::sys
