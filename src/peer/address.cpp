#include "peer/address.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>

#include "base/host_port.h"
#include "peer/link_protocol.h"

namespace hf::peer {
namespace {

struct AddressesFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressesFree>;

// The number is getaddrinfo's; 0: found.
int look_up(const HostPort& where, Addresses& found) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int failed =
      ::getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &list);
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

bool is_numeric(const std::string& address) {
  const Result<HostPort> where = parse_host_port(address);
  return where.ok() && where->is_numeric();
}

Result<std::vector<std::string>> numeric_addresses(const std::string& address) {
  const HostPort where = TRY(parse_host_port(address));
  Addresses found;
  if (const int failed = look_up(where, found); failed != 0) {
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
