// HOST:PORT as text, and what it means.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hf::peer {

struct HostPort {
  std::string host;  // without brackets
  std::string port;  // 1 to 65535, decimal
};
// kInvalidArgument: not HOST:PORT, an IPv6 address in brackets.
Result<HostPort> split_address(const std::string& address);

// True for an address that needs no looking up.
bool is_numeric(const std::string& address);
// Up to kAddressesMax numeric addresses. Asks the resolver for a name, which may take as long as
// resolv.conf says (kUnavailable); a numeric one costs nothing. Any thread.
Result<std::vector<std::string>> numeric_addresses(const std::string& address);

}  // namespace hf::peer
