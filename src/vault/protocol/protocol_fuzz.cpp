// Everything of the vault that parses bytes from elsewhere: frames and bodies from the sockets,
// wraps and certificates from peers, files from the disk.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/fuzz_input.h"
#include "crypto/session_statement.h"
#include "vault/core/certificate.h"
#include "vault/core/wrap.h"
#include "vault/protocol/protocol.h"
#include "vault/protocol/verdict_claims.h"
#include "vault/store/audit.h"
#include "vault/store/sealed_file.h"

using namespace hf;         // NOLINT
using namespace hf::vault;  // NOLINT

namespace {

// What decodes must encode to the same bytes again: one meaning, one form.
template <typename Decode>
void round_trip(ByteSpan bytes, Decode decode) {
  Reader reader(bytes);
  const auto value = decode(reader);
  if (!reader.finish("fuzz").ok()) return;
  Writer again;
  encode(again, value);
  HF_ASSERT(std::equal(again.bytes().begin(), again.bytes().end(), bytes.begin(), bytes.end()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan bytes = hf::fuzz_input(data, size);
  if (bytes.size() >= kHeaderSize) {
    const auto header = decode_header(bytes.first(kHeaderSize));
    if (header.ok()) {
      std::byte again[kHeaderSize];
      encode_header(*header, again);
      HF_ASSERT(std::equal(std::begin(again), std::end(again), bytes.begin()));
    }
  }
  round_trip(bytes, decode_site_identity);
  round_trip(bytes, decode_key_info);
  round_trip(bytes, decode_freshness);
  round_trip(bytes, decode_tls_request);
  round_trip(bytes, decode_attestation_pin);
  round_trip(bytes, decode_attestation_challenge);
  round_trip(bytes, decode_keeper_bindings);
  round_trip(bytes, decode_verdict_claims);
  round_trip(bytes, decode_recipient);
  round_trip(bytes, decode_pairing_offer);
  round_trip(bytes, decode_pairing_confirmation);
  if (const auto statement = crypto::decode_session_statement(bytes); statement.ok()) {
    HF_ASSERT(std::ranges::equal(crypto::encode(*statement), bytes));
  }
  (void)decode_reply(bytes).ok();
  (void)decode_fetched_key(bytes).ok();
  (void)parse_wrap(bytes).ok();
  (void)verify_certificate(bytes, crypto::PublicKey{}).ok();
  (void)parse_file(FileKind::kKey, bytes, "fuzz").ok();
  (void)verify_audit_log(as_text(bytes)).ok();
  return 0;
}
