// The one field of libtpms' volatile state that Holdfast changes: when it was stored, by the host's
// wall clock. libtpms 0.9 takes the time from there to its resumption for time under power.
#pragma once

#include "base/bytes.h"

namespace hf::vtpm {

// False, and nothing changed, if the state is not laid out as libtpms 0.9 does: then the time since
// counts.
bool set_time_of_storing(MutableByteSpan volatile_state, uint64_t wall_clock_ms);

}  // namespace hf::vtpm
