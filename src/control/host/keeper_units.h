// What all keepers without a key are started with.
#pragma once

#include <chrono>
#include <string>

#include "control/host/units.h"
#include "control/store/catalog.h"
#include "crypto/crypto.h"
#include "launcher/protocol/protocol.h"

namespace hf::control {

// From the catalog's hex.
Result<crypto::PublicKey> journal_key_of(std::string_view hex);
// Control and ship sockets, started again after a crash.
launcher::StartRequest keyless_keeper_request(const VmRow& row, std::string unit,
                                              sys::JsonObject config);
// One that was told to end did, and for good: killed before it could, the launcher starts it again.
bool gone_within(Units& units, const std::string& unit, std::chrono::milliseconds limit);

}  // namespace hf::control
