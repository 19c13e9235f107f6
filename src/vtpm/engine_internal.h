// Shared by the engine's two source files only.
#pragma once

#include "vtpm/engine.h"

namespace hf::vtpm {

// Wipes what was there.
void replace_secret(Bytes& slot, ByteSpan with);
// Takes over a malloc()ed secret buffer of libtpms.
Bytes take_secret(unsigned char* buffer, uint32_t size);
Error libtpms_error(std::string_view doing, TpmResult result);
// Drops state given by TPMLIB_SetState and not used yet. SetState(nullptr) would not do: it stands
// for "there is no state", and the next power-on would manufacture a new TPM.
void forget_cached_state();

}  // namespace hf::vtpm
