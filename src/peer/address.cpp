#include "peer/address.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "peer/link_protocol.h"

namespace hf::peer {
namespace {

struct AddressesFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressesFree>;

// The number is getaddrinfo's; 0: found.
int look_up(const HostPort& where, int flags, Addresses& found) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* list = nullptr;
  const int failed = ::getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &list);
  found.reset(failed == 0 ? list : nullptr);
  return failed;
}

std::string to_text(const addrinfo& address) {
  char host[NI_MAXHOST] = "";
  char port[NI_MAXSERV] = "";
  if (::getnameinfo(address.ai_addr, address.ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {};
  const std::string name(host);
  return (address.ai_family == AF_INET6 ? "[" + name + "]" : name) + ":" + port;
}

}  // namespace

Result<HostPort> split_address(const std::string& address) {
  const Error malformed{.code = ErrorCode::kInvalidArgument,
                        .cause = "\"" + address + "\" is not HOST:PORT"};
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || address.size() > 255) return malformed;
  HostPort split{.host = address.substr(0, colon), .port = address.substr(colon + 1)};
  uint32_t port = 0;
  const char* end = split.port.data() + split.port.size();
  const auto parsed = std::from_chars(split.port.data(), end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end || port == 0 || port > 65535) return malformed;
  if (split.host.size() > 2 && split.host.front() == '[' && split.host.back() == ']')
    split.host = split.host.substr(1, split.host.size() - 2);
  return split;
}

bool is_numeric(const std::string& address) {
  const Result<HostPort> where = split_address(address);
  Addresses found;
  return where.ok() && look_up(*where, AI_NUMERICHOST, found) == 0;
}

Result<std::vector<std::string>> numeric_addresses(const std::string& address) {
  const HostPort where = TRY(split_address(address));
  Addresses found;
  if (const int failed = look_up(where, 0, found); failed != 0) {
    return Error{.code = ErrorCode::kUnavailable, .cause = address + ": " + ::gai_strerror(failed)};
  }
  std::vector<std::string> numeric;
  for (const addrinfo* one = found.get(); one != nullptr; one = one->ai_next) {
    std::string text = to_text(*one);
    if (!text.empty() && numeric.size() < kAddressesMax &&
        std::ranges::find(numeric, text) == numeric.end())
      numeric.push_back(std::move(text));
  }
  return numeric;
}

}  // namespace hf::peer
