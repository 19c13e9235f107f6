// What only an operator may say goes to the vault, by a socket that holdfastd does not have. Of a
// pairing token holdfastd is told the id.
#pragma once

#include <string>

#include "cli/output.h"

namespace hf::cli {

// A token for another site, which is to reach this one at `address`; empty: as site.json says.
Result<sys::JsonObject> make_pairing_token(const Context& context, uint64_t life_s,
                                           const std::string& address);
// Pairs with the site that made `token`; that one is to reach this site at `address`.
Result<sys::JsonObject> pair_by_token(const Context& context, const std::string& token,
                                      const std::string& address);

}  // namespace hf::cli
