// Any bytes: decoded or refused; what decodes encodes to something that decodes to the same.
#include "base/assert.h"
#include "base/fuzz_input.h"
#include "vtpm/state/state_blob.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  const ByteSpan input = hf::fuzz_input(data, size);
  Result<vtpm::StateBlob> first = vtpm::decode_state_blob(input);
  if (!first.ok()) return 0;
  Result<Bytes> encoded = vtpm::encode_state_blob(*first);
  HF_ASSERT(encoded.ok());
  Result<vtpm::StateBlob> second = vtpm::decode_state_blob(*encoded);
  HF_ASSERT(second.ok());
  HF_ASSERT(second->permanent == first->permanent);
  HF_ASSERT(second->volatile_state == first->volatile_state);
  return 0;
}
