// CRC-32C (Castagnoli, RFC 3720 B.4), by isa-l. Finds torn and flipped bytes; proves nothing about
// who wrote them.
#pragma once

#include "base/bytes.h"

namespace hf {
uint32_t crc32c(ByteSpan bytes);
}  // namespace hf
