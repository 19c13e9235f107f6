// What all keepers without a key are started with.
#pragma once

#include <string>

#include "control/store/catalog.h"
#include "crypto/crypto.h"
#include "launcher/protocol/protocol.h"

namespace hf::control {

// From the catalog's hex.
Result<crypto::PublicKey> journal_key_of(std::string_view hex);
// Control and ship sockets, started again after a crash.
launcher::StartRequest keyless_keeper_request(const VmRow& row, std::string unit,
                                              sys::JsonObject config);

}  // namespace hf::control
