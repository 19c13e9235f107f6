// Is a quote what it says: made inside a TPM, by this key, for this nonce, of these PCR values?
//
// Checked, in this order: the attestation key's attributes (restricted, sign, fixedTPM,
// sensitiveDataOrigin; not decrypt) and its size; its pinned name, if one is given; TPM_GENERATED
// and the quote type; the nonce, whole; the signature by the key's own scheme with SHA-256 or
// better; that every selected PCR's value was given and that their digest is the quoted one. What
// says that the key is a TPM's at all is outside: pinning after credential activation, or the
// certificate (ak_certificate.h).
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "attestation/tpm/tpm_structures.h"
#include "base/bytes.h"
#include "base/result.h"

namespace hf::attestation {

inline constexpr size_t kNonceMin = 8;  // RFC 9711, 4.1
inline constexpr size_t kNonceMax = 64;

// Values of one bank's PCRs, as far as known.
struct PcrValues {
  HashAlg bank{};
  std::array<std::optional<Bytes>, kPcrCount> values;
};

struct QuoteExpectation {
  ByteSpan nonce;                                 // kNonceMin to kNonceMax bytes
  std::optional<ByteSpan> ak_name = {};           // pinned at enrolment
  std::optional<ByteSpan> qualified_signer = {};  // where the key's place in the TPM is known
};

// What a verified quote vouches for: only PCRs that it selected are in `banks`.
struct QuotedPcrs {
  Bytes ak_name;
  Bytes qualified_signer;
  ClockInfo clock;
  uint64_t firmware_version = 0;
  std::vector<PcrValues> banks;

  // Null if the quote does not cover it.
  const Bytes* find(HashAlg bank, uint32_t pcr) const;
};

// kWrongKey: the signature, the name or the nonce is another's. kInvalidArgument: the key may not
// quote, or values are missing or do not add up to the quoted digest. kCorrupt, kUnsupported: from
// parsing.
Result<QuotedPcrs> verify_quote(const TpmPublic& ak, ByteSpan attest, ByteSpan signature,
                                const std::vector<PcrValues>& given,
                                const QuoteExpectation& expectation);

// Whether TPM2_Quote by this key means anything: attributes, kind and size.
Status check_attestation_key(const TpmPublic& ak);

}  // namespace hf::attestation
