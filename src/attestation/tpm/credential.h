// TPM2_MakeCredential outside a TPM: a secret that only the TPM with this endorsement key can open,
// and only while it holds the key with this name (TPM 2.0 Library, part 1, "Credential Protection"
// and annexes B.10.4, C.6.4).
#pragma once

#include "attestation/tpm/tpm_structures.h"
#include "base/bytes.h"
#include "base/result.h"

namespace hf::attestation {

struct Credential {
  Bytes id_object;         // TPM2B_ID_OBJECT: size, integrity, encrypted identity
  Bytes encrypted_secret;  // TPM2B_ENCRYPTED_SECRET
};

// `ek`: a restricted decryption key, RSA-2048 to 4096 or ECC P-256 or P-384, with AES-CFB.
// `secret`: at most as long as the EK's name digest. kInvalidArgument, kUnsupported.
Result<Credential> make_credential(const TpmPublic& ek, ByteSpan ak_name, ByteSpan secret);

}  // namespace hf::attestation
