// Any bytes as an item of volume 0: decoded or refused; what decodes encodes to the same.
#include <algorithm>

#include "base/assert.h"
#include "base/fuzz_input.h"
#include "keeper/guest_state/item_formats.h"
#include "keeper/guest_state/items.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;          // NOLINT
  using namespace hf::keeper;  // NOLINT
  const ByteSpan input = hf::fuzz_input(data, size);
  if (input.size() >= kAttestationHeaderSize) {
    const Result<Bytes> decoded = decode_attestation(input);
    if (decoded.ok()) HF_ASSERT(std::ranges::equal(encode_attestation(*decoded), input));
  }
  Bytes directory(input.begin(), input.end());
  directory.resize(kSavedDirectorySize);
  const auto stores = decode_saved_stores(directory);
  if (stores.ok()) {
    HF_ASSERT(stores->size() <= kSavedStoresMax);
    HF_ASSERT(*decode_saved_stores(encode_saved_stores(*stores)) == *stores);
  }
  return 0;
}
