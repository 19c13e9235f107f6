// The vTPM speaks for itself: its keys' public sides, quotes of its PCRs by its attestation key
// (AK), and the proof that the AK lives beside the endorsement key (EK).
//
// The AK is a primary key of the endorsement hierarchy (key_templates.h): made from the seed that
// TPM2_Clear spares, so that it is always the same key, whatever happens to its persistent copy. A
// guest that evicts the copy, or puts another key in its place, costs a quote the time to make it
// again and nothing else: a key is used only under the name that is expected. Only a new
// endorsement seed (TPM2_ChangeEPS, which needs the platform's authorization; firmware gives it
// away at boot) makes another one, and that one is refused: kWrongKey.
//
// Everything here runs between two commands of the guest (Engine::between_guest_commands) and
// leaves nothing behind. What the guest holds may be in the way for a moment: kTimeout, to be tried
// again.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "vtpm/engine.h"
#include "vtpm/manufacture.h"

namespace hf::vtpm {

inline constexpr size_t kQuoteNonceMax = 64;

struct TpmIdentity {
  Bytes ak_public;                      // TPMT_PUBLIC
  Bytes ak_name;                        // nameAlg ‖ digest
  Bytes ek_public;                      // of the RSA-2048 EK
  std::optional<Bytes> ek_certificate;  // DER
};

// PCR values by bank (TPM_ALG_ID).
using PcrValues = std::map<uint16_t, std::map<uint8_t, Bytes>>;
// Banks and PCRs.
using PcrSelection = std::map<uint16_t, std::vector<uint8_t>>;

struct Quote {
  Bytes attest;     // TPMS_ATTEST
  Bytes signature;  // TPMT_SIGNATURE
  PcrValues pcrs;   // the values quoted
};

// Reads them, and makes the AK's persistent copy if there is none. `expected_name`: the AK that was
// enrolled, if one was.
Result<TpmIdentity> read_identity(const SendCommand& send, std::optional<ByteSpan> expected_name);
// kInvalidArgument: a bank that is not allocated, no PCR, or a nonce of another length.
Result<Quote> quote(const SendCommand& send, const TpmIdentity& identity, ByteSpan nonce,
                    const PcrSelection& selection);
// The secret in a credential for this EK and AK (TPM 2.0 Library, part 1, "Credential Protection").
// Both arguments with their sizes in front, as MakeCredential gives them. kWrongKey: made for other
// keys.
Result<Bytes> activate_credential(const SendCommand& send, const TpmIdentity& identity,
                                  ByteSpan id_object, ByteSpan encrypted_secret, ByteSpan nonce);
// All PCRs of all allocated banks.
Result<PcrValues> read_pcrs(const SendCommand& send);

}  // namespace hf::vtpm
