// Shared by the engine's source files only.
#pragma once

#include <chrono>

#include "vtpm/engine.h"

namespace hf::vtpm {

// A recovered clock is set ahead by the margin, so no answer may tell one further from the durable
// one. TPM2_ClockRateAdjust makes it run up to a fifth faster than the host's.
inline constexpr std::chrono::milliseconds kClockMargin{30'000};
inline constexpr std::chrono::milliseconds kClockCommitAfter{20'000};
static_assert(kClockCommitAfter * 6 / 5 < kClockMargin);

// Wipes what was there.
void replace_secret(Bytes& slot, ByteSpan with);
// Takes over a malloc()ed secret buffer of libtpms.
Bytes take_secret(unsigned char* buffer, uint32_t size);
Error libtpms_error(std::string_view doing, TpmResult result);
// Drops state given by TPMLIB_SetState and not used yet. SetState(nullptr) would not do: it stands
// for "there is no state", and the next power-on would manufacture a new TPM.
void forget_cached_state();

}  // namespace hf::vtpm
