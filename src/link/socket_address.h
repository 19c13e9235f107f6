// Numeric internet addresses, without the resolver: the link has no file that one would read.
#pragma once

#include <sys/socket.h>

#include <array>
#include <compare>
#include <string>

#include "sys/fd.h"

namespace hf::link {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  int family() const { return storage.ss_family; }
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage); }
};
// "192.0.2.1:7443" or "[2001:db8::1]:7443". kInvalidArgument.
Result<SocketAddress> parse_address(const std::string& text);
std::string to_text(const SocketAddress& address);

// Whose address it is, for limits: all of an IPv4 address, the first 64 bits of an IPv6 one.
struct Origin {
  std::array<std::byte, 9> bytes{};
  auto operator<=>(const Origin&) const = default;
};
Origin origin_of(const SocketAddress& address);

// Non-blocking, close-on-exec, without delay, and with little unsent in the kernel: what is
// urgent does not wait behind what is not.
Result<sys::UniqueFd> make_tcp_socket(int family);
void set_tcp_options(int fd);

}  // namespace hf::link
