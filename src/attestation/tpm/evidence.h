// Evidence as JSON: what an attester (a guest with tpm2-tools, or the keeper for its VM) hands to a
// verifier. Format: docs/formats/evidence.md. Nothing in it counts before verify_evidence.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attestation/tpm/quote.h"
#include "base/ids.h"
#include "base/result.h"
#include "sys/json.h"

namespace hf::attestation {

inline constexpr size_t kEvidenceTextMax = size_t{4} << 20;
inline constexpr size_t kEvidenceEventLogMax = size_t{1} << 20;
inline constexpr size_t kEvidenceExtendsMax = 4096;
inline constexpr size_t kSecureBootVariableMax = size_t{64} << 10;

struct Evidence {
  std::optional<VmId> vm;  // the attester's word; the AK decides
  Bytes nonce;
  Bytes quote;                                // TPMS_ATTEST
  Bytes signature;                            // TPMT_SIGNATURE
  Bytes ak_public;                            // TPMT_PUBLIC or TPM2B_PUBLIC
  std::optional<std::string> ak_certificate;  // PEM
  std::optional<Bytes> ek_certificate;        // DER
  std::vector<PcrValues> pcrs;
  std::optional<Bytes> event_log;
  std::optional<sys::JsonObject> extends;    // the keeper's record; extend_record.h reads it
  std::map<std::string, Bytes> secure_boot;  // PK, KEK, db, dbx, MokListRT …: EFI_SIGNATURE_LISTs
};

// kInvalidArgument names the member; kLimit.
Result<Evidence> parse_evidence(std::string_view json);
sys::JsonObject to_json(const Evidence& evidence);

// The quote in `evidence` against what the verifier expects (its own nonce, never the one written
// in the evidence).
Result<QuotedPcrs> verify_quote(const Evidence& evidence, const QuoteExpectation& expectation);

}  // namespace hf::attestation
