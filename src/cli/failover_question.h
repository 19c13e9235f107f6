// What an operator is asked before a failover, from what GET .../failover says.
#pragma once

#include <cstdint>
#include <string>

#include "sys/json.h"

namespace hf::cli {

// How old the state is, what the source answers, and what becomes of it there. `said_off`:
// --source-is-off was given.
std::string failover_question(const sys::JsonObject& preview, bool said_off, uint64_t now_us);

}  // namespace hf::cli
