// Any text as evidence, token and key set. Evidence that is taken says the same after writing and
// reading it again; no token verifies without the key.
#include "attestation/token/ear.h"
#include "attestation/tpm/evidence.h"
#include "base/assert.h"
#include "base/fuzz_input.h"

namespace {

using namespace hf;
using namespace hf::attestation;

const KeySet& fixed_keys() {
  static const KeySet kKeys =
      KeySet::parse(R"({"keys":[{"kty":"EC","crv":"P-256","kid":"k",)"
                    R"("x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",)"
                    R"("y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}]})")
          .value();
  return kKeys;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = hf::as_text(hf::fuzz_input(data, size));
  if (Result<Evidence> evidence = parse_evidence(text); evidence.ok()) {
    const std::string written = sys::to_text(to_json(*evidence));
    Result<Evidence> again = parse_evidence(written);
    HF_ASSERT(again.ok() && sys::to_text(to_json(*again)) == written);
    (void)verify_quote(*evidence, {.nonce = evidence->nonce}).ok();
  }
  HF_ASSERT(!verify_token(text, fixed_keys()).ok());
  if (Result<KeySet> keys = KeySet::parse(text); keys.ok()) {
    HF_ASSERT(keys->keys().size() <= kKeySetKeysMax);
  }
  if (Result<sys::JsonObject> payload = sys::parse_json_object(text); payload.ok()) {
    if (Result<Ear> ear = parse_ear(*payload); ear.ok()) (void)to_json(*ear);
  }
  return 0;
}
