#include "control/peers/peer_name.h"

#include <algorithm>

namespace hf::control {
namespace {
constexpr size_t kNameMax = 64;

bool in_a_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}
}  // namespace

Status check_peer_name(std::string_view name) {
  Error error{.code = ErrorCode::kInvalidArgument,
              .effect = "the sites are not paired",
              .mend = "choose 1 to 64 of letters, digits, '.', '_' and '-', not like an id"};
  if (name.empty() || name.size() > kNameMax || name.front() == '-' ||
      !std::ranges::all_of(name, in_a_name)) {
    error.cause = "this is not a name for a site";
    return error;
  }
  if (!SiteId::parse_hex(name).ok()) return {};
  error.cause = "\"" + std::string(name) + "\" looks like a site's id";
  return error;
}

Result<std::string> choose_peer_name(Catalog& catalog, SiteId site, std::string_view own,
                                     const std::string& wanted, const std::string& mend) {
  std::string name = wanted;
  if (name.empty()) {
    const Result<PeerRow> known = catalog.peer(site);
    if (!known.ok() && known.error().code != ErrorCode::kNotFound) return known.error();
    if (known.ok()) return known->name;
    name = own;
  }
  if (Status good = check_peer_name(name); !good.ok()) {
    Error error = std::move(good).error();
    if (wanted.empty()) error.mend = mend;
    return error;
  }
  for (const PeerRow& other : TRY(catalog.peers())) {
    if (other.name != name || other.site == site) continue;
    return Error{.code = ErrorCode::kExists,
                 .cause = "\"" + name + "\" is what another paired site is called",
                 .effect = "the sites are not paired; the token can still be used",
                 .mend = mend};
  }
  return name;
}

}  // namespace hf::control
