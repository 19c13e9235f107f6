// For tests: what the host's clocks are off by, as libtpms and the engine read them. crash_test.cpp
// stands in for clock_gettime().
#pragma once

#include <atomic>
#include <cstdint>

namespace hf::vtpm {

extern std::atomic<int64_t> wall_clock_step_s;
extern std::atomic<int64_t> uptime_step_s;

}  // namespace hf::vtpm
