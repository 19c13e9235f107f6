// Hostile guest state files: parsing and reading every file, with and without a key.
#include "guest_state/vmgs_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  if (size > 1 << 20) return 0;
  crypto::SystemRng rng;
  auto* bytes = reinterpret_cast<const std::byte*>(data);
  crypto::Secret key(crypto::kKeySize);
  for (const crypto::Secret* use :
       {static_cast<const crypto::Secret*>(nullptr), &std::as_const(key)}) {
    auto image = guest_state::VmgsImage::open(Bytes(bytes, bytes + size), use, rng);
    if (!image.ok()) continue;
    for (uint32_t id = 0; id < guest_state::kVmgsFiles; ++id) (void)image->read(id).ok();
  }
  return 0;
}
