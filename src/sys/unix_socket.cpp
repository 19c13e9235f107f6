#include "sys/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>

namespace hf::sys {
namespace {

int native(SocketType type) { return type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET; }

constexpr size_t kPathMax = sizeof sockaddr_un{}.sun_path - 1;

sockaddr_un address_of(const SocketPath& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  HF_ASSERT(path.text.size() <= kPathMax);
  std::memcpy(address.sun_path, path.text.c_str(), path.text.size() + 1);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

Result<SocketPath> short_socket_path(const std::string& path) {
  SocketPath as_it_is{.text = path, .directory = {}};
  if (!path.empty() && path.size() <= kPathMax) return as_it_is;
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
  SocketPath through{
      .text = {}, .directory = UniqueFd(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC))};
  if (!through.directory) {
    Error error = errno_error(errno, "open " + parent);
    if (errno == ENOENT) error.code = ErrorCode::kUnavailable;
    return error;
  }
  through.text =
      "/proc/self/fd/" + std::to_string(through.directory.get()) + "/" + path.substr(slash + 1);
  if (path.empty() || through.text.size() > kPathMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + path + "\" is not a path for a socket: its last part is too long",
                 .effect = "the socket cannot be used",
                 .mend = "use a shorter name"};
  }
  return through;
}

Result<UniqueFd> listen_unix(const std::string& path, SocketType type, mode_t mode) {
  const SocketPath place = TRY(short_socket_path(path));
  const sockaddr_un address = address_of(place);
  UniqueFd fd(::socket(AF_UNIX, native(type) | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error(errno, "create a socket");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_error(errno, "remove " + path);
  // The mode of the inode is there before anyone can connect: fchmod on the unbound socket.
  if (::fchmod(fd.get(), mode) != 0) return errno_error(errno, "set the mode of a socket");
  if (::bind(fd.get(), generic(address), sizeof address) != 0)
    return errno_error(errno, "bind " + path);
  if (::listen(fd.get(), 64) != 0) return errno_error(errno, "listen at " + path);
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& path, SocketType type) {
  const SocketPath place = TRY(short_socket_path(path));
  const sockaddr_un address = address_of(place);
  UniqueFd fd(::socket(AF_UNIX, native(type) | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error(errno, "create a socket");
  while (::connect(fd.get(), generic(address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    Error error = errno_error(errno, "connect to " + path);
    if (errno == ECONNREFUSED || errno == ENOENT || errno == EAGAIN)
      error.code = ErrorCode::kUnavailable;
    return error;
  }
  return fd;
}

Result<SocketPair> socket_pair(SocketType type) {
  int fds[2];
  if (::socketpair(AF_UNIX, native(type) | SOCK_CLOEXEC, 0, fds) != 0) {
    return errno_error(errno, "create a socket pair");
  }
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<PeerCredentials> peer_credentials(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return errno_error(errno, "read the peer's credentials");
  }
  return PeerCredentials{.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
}

Result<bool> peer_has_group(int fd, gid_t group) {
  const PeerCredentials own = TRY(peer_credentials(fd));
  if (own.gid == group) return true;
  std::vector<gid_t> groups(64);
  for (int tries = 0; tries < 3; ++tries) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) {
      groups.resize(size / sizeof(gid_t));
      return std::ranges::find(groups, group) != groups.end();
    }
    if (errno != ERANGE) return errno_error(errno, "read the peer's groups");
    groups.resize(size / sizeof(gid_t));  // as many as there are; the kernel allows 65,536
  }
  return Error{.code = ErrorCode::kIo, .cause = "the peer's groups cannot be read"};
}

Status send_with_fds(int fd, ByteSpan bytes, std::span<const int> fds) {
  HF_ASSERT(fds.size() <= kPassedFdsMax);
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kPassedFdsMax * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  ssize_t count;
  do {
    count = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return errno_error(errno, "send a message");
  // The descriptors went with the first byte; the rest of a stream message follows plainly.
  bytes = bytes.subspan(static_cast<size_t>(count));
  while (!bytes.empty()) {
    count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error(errno, "send a message");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Result<ReceivedMessage> receive_with_fds(int fd, MutableByteSpan to) {
  iovec part{.iov_base = to.data(), .iov_len = to.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kPassedFdsMax * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count;
  do {
    count = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    Error error = errno_error(errno, "receive a message");
    if (errno == EAGAIN || errno == EWOULDBLOCK) error.code = ErrorCode::kTimeout;
    return error;
  }
  ReceivedMessage received{.size = static_cast<size_t>(count),
                           .truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0,
                           .fds = {}};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < number; ++i) {
      int passed;
      std::memcpy(&passed, CMSG_DATA(header) + i * sizeof(int), sizeof passed);
      received.fds.emplace_back(passed);
    }
  }
  return received;
}

Status set_socket_timeouts(int fd, unsigned milliseconds) {
  timeval limit{.tv_sec = static_cast<time_t>(milliseconds / 1000),
                .tv_usec = static_cast<suseconds_t>(milliseconds % 1000 * 1000)};
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
      ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
    return errno_error(errno, "set a socket's time limits");
  }
  return {};
}

}  // namespace hf::sys
