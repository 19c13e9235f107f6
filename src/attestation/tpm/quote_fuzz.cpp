// Any bytes as public area, quote, signature and PCR values. What parses is exact; and no quote is
// ever taken for a key whose private half the fuzzer does not have.
#include "attestation/tpm/quote.h"
#include "base/assert.h"
#include "base/fuzz_input.h"

namespace {

using namespace hf;
using namespace hf::attestation;

// ECDSA on P-256. The point is the generator: its private half is 1, but a fuzzer does no sums.
const TpmPublic& fixed_key() {
  static const TpmPublic kKey = [] {
    const Bytes area =
        from_hex(
            "0023000b000500720000001000"
            "18000b0003001000206b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a1394"
            "5d898c29600204fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf"
            "51f5")
            .value();
    return parse_public(area).value();
  }();
  return kKey;
}

void fuzz_parsers(ByteSpan input) {
  if (Result<TpmPublic> key = parse_public(input); key.ok()) {
    HF_ASSERT(key->area.size() == input.size() || key->area.size() + 2 == input.size());
    HF_ASSERT(key->name.size() == 2 + size_of(key->name_algorithm));
    Result<TpmPublic> again = parse_public(key->area);
    HF_ASSERT(again.ok() && again->name == key->name);
    (void)openssl_key(*key).ok();
  }
  if (Result<QuoteInfo> quote = parse_quote(input); quote.ok()) {
    HF_ASSERT(quote->selection.size() <= kSelectionBanksMax);
    for (const PcrSelection& bank : quote->selection) HF_ASSERT(bank.mask >> kPcrCount == 0);
  }
  if (Result<TpmSignature> signature = parse_signature(input); signature.ok()) {
    HF_ASSERT(signature->rsa.size() + signature->r.size() + signature->s.size() <= input.size());
  }
}

void fuzz_verification(ByteSpan input) {
  // Length of the quote, then quote and signature; the nonce is the quote's own if it has one.
  if (input.size() < 2) return;
  const size_t split = std::min<size_t>(load_be<uint16_t>(input.data()), input.size() - 2);
  const ByteSpan attest = input.subspan(2, split);
  const ByteSpan signature = input.subspan(2 + split);
  Bytes nonce(20);
  if (Result<QuoteInfo> quote = parse_quote(attest); quote.ok()) nonce = quote->extra_data;
  std::vector<PcrValues> values;
  for (HashAlg alg : kHashAlgs) {
    PcrValues& bank = values.emplace_back();
    bank.bank = alg;
    bank.values.fill(Bytes(size_of(alg)));
  }
  HF_ASSERT(!verify_quote(fixed_key(), attest, signature, values, {.nonce = nonce}).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan input = hf::fuzz_input(data, size);
  fuzz_parsers(input);
  fuzz_verification(input);
  return 0;
}
