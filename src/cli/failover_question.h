// What an operator is asked before a failover, from what GET .../failover says.
#pragma once

#include <cstdint>
#include <string>

#include "sys/json.h"

namespace hf::cli {

// How old the state is, what the source answers, and what becomes of it there. `said_off`:
// --source-is-off was given.
std::string failover_question(const sys::JsonObject& preview, bool said_off, uint64_t now_us);

// Before a conflict is settled: who holds `vm` (GET .../vms/VM) by which title, and what becomes of
// the one that is not kept.
std::string settle_question(const sys::JsonObject& vm, const std::string& keep);

}  // namespace hf::cli
