// Asking a VM's keeper over its control socket (one JSON object a line each way).
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "sys/json.h"

namespace hf::daemon {

// One connection, one question. kUnavailable, kTimeout, or the keeper's own error.
Result<sys::JsonObject> ask_keeper(const std::string& control_socket,
                                   const sys::JsonObject& request, std::chrono::milliseconds limit);

}  // namespace hf::daemon
