// Evidence appraised as a whole: quote, certificate of the attestation key, event log, record of
// extends and Secure Boot variables are read out of one document and judged together.
#pragma once

#include <optional>
#include <vector>

#include "attestation/appraisal/appraisal.h"
#include "attestation/tpm/ak_certificate.h"
#include "attestation/tpm/evidence.h"

namespace hf::attestation {

struct EvidenceQuestion {
  ByteSpan nonce;                  // the verifier's own
  const Policy* policy = nullptr;  // never null
  const Baseline* baseline = nullptr;
  // They are those of whoever asks, and may call anything healthy: the result is about no VM.
  bool askers_rules = false;
  // Sites whose word on attestation keys counts.
  const std::vector<crypto::Certificate>* cas = nullptr;
  // What the verifier knows besides. Its pinned key, if there is one, must be the quote's. Which VM
  // it is, and that the key is certified, are filled in from the certificate.
  AppraisalContext context;
};

struct EvidenceAnswer {
  Appraisal appraisal;
  AppraisalContext context;       // as judged: for to_ear()
  std::optional<AkIdentity> key;  // what the key's certificate says; absent without a good one
  std::string key_words;          // the same for a person
  bool askers_rules = false;
};

// Whose key it is, by the certificate that came with it: of one of the sites `cas`. An error says
// in words why nothing is known.
Result<AkIdentity> certified_key(const Evidence& evidence,
                                 const std::vector<crypto::Certificate>& cas, Micros now);

// Evidence that is bad makes a bad appraisal, not an error. kInvalidArgument, kLimit: the keeper's
// record in it cannot be read.
Result<EvidenceAnswer> appraise_evidence(const Evidence& evidence,
                                         const EvidenceQuestion& question);

// The token's content for it: names a VM and its role only if the certificate or the verifier does,
// and it was judged by the verifier's own rules.
Ear to_ear(const EvidenceAnswer& answer, ByteSpan nonce);

}  // namespace hf::attestation
