// Whatever bytes the daemon sends, decoding ends, and what was accepted is encoded alike again.
#include "base/fuzz_input.h"
#include "launcher/protocol/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = hf::as_text(hf::fuzz_input(data, size));
  auto request = hf::launcher::decode_request(text);
  if (request.ok()) {
    std::string encoded = hf::launcher::encode(*request);
    auto again = hf::launcher::decode_request(encoded);
    HF_ASSERT(again.ok() && hf::launcher::encode(*again) == encoded);
  }
  (void)hf::launcher::decode_from_launcher(text).ok();
  return 0;
}
