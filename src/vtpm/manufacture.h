// What a TPM gets before its VM's first boot, as TCG's EK Credential Profile for TPM 2.0 and the
// TPM 2.0 Provisioning Guidance lay it out: PCR banks, endorsement keys and storage root key at
// their standard handles, certificates at their standard NV indices.
//
//   0x81010001  EK RSA-2048   (low range template L-1)     certificate at NV 0x01C00002
//   0x81010016  EK ECC P-384  (high range template H-3)    certificate at NV 0x01C00016
//   0x81000001  SRK RSA-2048                               platform certificate at NV 0x01C08000
//   0x8101FF00  attestation key (attestation_key.h)        certificate in the site's vault
//
// Without an issuer the keys are made all the same; their certificates can be written later only by
// whoever holds platform authorization, that is, before the firmware's first boot locks it.
#pragma once

#include <optional>
#include <vector>

#include "vtpm/engine.h"

namespace hf::vtpm {

inline constexpr uint32_t kEkRsaHandle = 0x81010001;
inline constexpr uint32_t kEkEccHandle = 0x81010016;
inline constexpr uint32_t kSrkHandle = 0x81000001;
// At the end of the range that TCG's registry of reserved handles keeps for endorsement keys.
inline constexpr uint32_t kAttestationKeyHandle = 0x8101FF00;
inline constexpr uint32_t kEkRsaCertificateIndex = 0x01C00002;
inline constexpr uint32_t kEkEccCertificateIndex = 0x01C00016;
inline constexpr uint32_t kPlatformCertificateIndex = 0x01C08000;
inline constexpr size_t kCertificateSizeMax = 2048;  // libtpms' largest NV index

enum class EkKind { kRsa2048, kEccP384 };

struct EkPublic {
  EkKind kind;
  Bytes
      public_area;  // TPMT_PUBLIC as the TPM marshals it; its SHA-256/384 with nameAlg is the Name
  Bytes modulus;    // RSA: 256 bytes, big-endian; the exponent is 65537
  Bytes x;          // ECC: 48 bytes each, big-endian
  Bytes y;
};

class CertificateIssuer {
 public:
  virtual ~CertificateIssuer() = default;
  // DER of an X.509 EK certificate (EKU 2.23.133.8.1) for this key.
  virtual Result<Bytes> endorsement_certificate(const EkPublic& key) = 0;
  // DER of a platform certificate (EKU 2.23.133.8.2), or none.
  virtual Result<std::optional<Bytes>> platform_certificate(const EkPublic& rsa_key) = 0;
};

struct ManufactureOptions {
  // TPM_ALG_IDs of the active PCR banks; the others libtpms has are switched off.
  std::vector<uint16_t> pcr_banks = {kAlgSha256};
  CertificateIssuer* issuer = nullptr;
};

// `engine` comes from Engine::create and has not been started. Leaves it powered off, everything in
// force from its next power-on. Give the engine commit_allowed = false and allow it afterwards:
// then a creation that dies half-way leaves no TPM behind rather than half a one.
Status manufacture(Engine& engine, const ManufactureOptions& options);

}  // namespace hf::vtpm
