// What an address as text (base/host_port.h) means to the resolver.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hf::peer {

// True for an address that needs no looking up.
bool is_numeric(const std::string& address);
// Up to kAddressesMax numeric addresses. Asks the resolver for a name, which may take as long as
// resolv.conf says (kUnavailable); a numeric one costs nothing. Any thread.
Result<std::vector<std::string>> numeric_addresses(const std::string& address);

}  // namespace hf::peer
