#include "control/host/keeper_units.h"

#include <algorithm>

#include "base/bytes.h"
#include "control/core/paths.h"

namespace hf::control {

Result<crypto::PublicKey> journal_key_of(std::string_view hex) {
  const Bytes raw = TRY(from_hex(hex));
  crypto::PublicKey key{};
  if (raw.size() != key.size())
    return Error{.code = ErrorCode::kCorrupt, .cause = "a journal key of the wrong length"};
  std::ranges::copy(raw, key.begin());
  return key;
}

launcher::StartRequest keyless_keeper_request(const VmRow& row, std::string unit,
                                              sys::JsonObject config) {
  launcher::StartRequest request{.unit = std::move(unit),
                                 .kind = launcher::UnitKind::kKeeper,
                                 .vm = row.id,
                                 .vm_number = row.number,
                                 .restart = launcher::RestartPolicy::kAlways};
  for (const char* name : {"control", "ship"}) {
    request.sockets.push_back({.name = name,
                               .path = Paths::run_relative(row.id, std::string(name) + ".sock"),
                               .access = launcher::SocketAccess::kDaemon});
  }
  request.config = std::move(config);
  return request;
}

}  // namespace hf::control
