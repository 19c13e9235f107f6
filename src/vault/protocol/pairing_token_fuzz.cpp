// Pairing tokens are text from a stranger: whatever decodes encodes to the same text.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/fuzz_input.h"
#include "vault/protocol/pairing_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = hf::as_text(hf::fuzz_input(data, size));
  hf::Result<hf::vault::PairingToken> token = hf::vault::decode_token(text);
  if (token.ok()) HF_ASSERT(text.starts_with(hf::vault::encode_token(*token)));
  return 0;
}
