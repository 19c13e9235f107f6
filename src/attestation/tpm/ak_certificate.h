// Certificates of attestation keys: who vouches that a key is a vTPM's, and which VM's.
//
// A site's vault issues them after credential activation: subject key = the attestation key, signed
// by the site CA, SAN URI "holdfast:vm:HEX". Relying parties that pinned a site's CA need nothing
// else of it.
#pragma once

#include <string>
#include <vector>

#include "attestation/tpm/tpm_structures.h"
#include "base/ids.h"
#include "crypto/x509.h"

namespace hf::attestation {

inline constexpr std::string_view kVmUriPrefix = "holdfast:vm:";
inline constexpr size_t kCertificateMax = 8192;

struct AkIdentity {
  VmId vm;
  Digest ca;  // fingerprint of the CA that vouches
};

// kWrongKey: no given CA signed it, or it is another key's. kInvalidArgument: not valid at `now`,
// names no VM, or names several.
Result<AkIdentity> check_ak_certificate(std::string_view pem, const TpmPublic& ak,
                                        const std::vector<crypto::Certificate>& cas, Micros now);

}  // namespace hf::attestation
