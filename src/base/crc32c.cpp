#include "base/crc32c.h"

#include <isa-l/crc.h>

namespace hf {

uint32_t crc32c(ByteSpan bytes) {
  // isa-l neither inverts at the start nor at the end; it does not write through the pointer.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~0U);
}

}  // namespace hf
