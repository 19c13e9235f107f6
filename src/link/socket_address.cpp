#include "link/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>

#include "base/host_port.h"

namespace hf::link {
namespace {

const sockaddr_in& as_v4(const SocketAddress& address) {
  return *reinterpret_cast<const sockaddr_in*>(&address.storage);
}
const sockaddr_in6& as_v6(const SocketAddress& address) {
  return *reinterpret_cast<const sockaddr_in6*>(&address.storage);
}

}  // namespace

Result<SocketAddress> parse_address(const std::string& text) {
  const HostPort where = TRY(parse_host_port(text));
  SocketAddress address;
  if (where.kind == HostKind::kIpv4) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage);
    HF_ASSERT(::inet_pton(AF_INET, where.host.c_str(), &v4.sin_addr) == 1);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(where.port);
    address.size = sizeof v4;
    return address;
  }
  if (where.kind == HostKind::kIpv6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
    HF_ASSERT(::inet_pton(AF_INET6, where.host.c_str(), &v6.sin6_addr) == 1);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(where.port);
    address.size = sizeof v6;
    return address;
  }
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + text + "\" is not a numeric address"};
}

std::string to_text(const SocketAddress& address) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (address.family() == AF_INET) {
    ::inet_ntop(AF_INET, &as_v4(address).sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(as_v4(address).sin_port));
  }
  if (address.family() != AF_INET6) return host;
  ::inet_ntop(AF_INET6, &as_v6(address).sin6_addr, host, sizeof host);
  return "[" + std::string(host) + "]:" + std::to_string(ntohs(as_v6(address).sin6_port));
}

Origin origin_of(const SocketAddress& address) {
  Origin origin;
  const std::byte* from = nullptr;
  size_t size = 0;
  if (address.family() == AF_INET) {
    from = reinterpret_cast<const std::byte*>(&as_v4(address).sin_addr);
    size = 4;
  } else if (address.family() == AF_INET6) {
    from = reinterpret_cast<const std::byte*>(&as_v6(address).sin6_addr);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&as_v6(address).sin6_addr);
    if (mapped) from += 12;
    size = mapped ? 4 : 8;
  }
  origin.bytes[0] = static_cast<std::byte>(size);
  if (from != nullptr) std::copy_n(from, size, origin.bytes.begin() + 1);
  return origin;
}

Result<sys::UniqueFd> make_tcp_socket(int family) {
  sys::UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_error(errno, "make a socket");
  set_tcp_options(fd.get());
  return fd;
}

void set_tcp_options(int fd) {
  auto set = [fd](int level, int option, int value) {
    static_cast<void>(::setsockopt(fd, level, option, &value, sizeof value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 128 << 10);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
}

}  // namespace hf::link
