// JSON messages between sites: u32 length, little-endian, then one object.
#pragma once

#include "daemon/tls.h"
#include "sys/json.h"

namespace hf::daemon {

inline constexpr size_t kPeerMessageMax = size_t{256} << 10;

Status send_message(TlsStream& to, const sys::JsonObject& message, Millis limit);
// The other side's {"error":…} becomes the error.
Result<sys::JsonObject> receive_message(TlsStream& from, Millis limit);
sys::JsonObject error_message(const Error& error);

}  // namespace hf::daemon
