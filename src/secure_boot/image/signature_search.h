// Looking for an image's digest or signer in a signature database: what firmware and shim share.
#pragma once

#include "secure_boot/image/image_verification.h"

namespace hf::secure_boot {

struct SignatureSource {
  const SignatureDatabase& database;
  std::string_view variable;  // as it is measured
  Guid vendor;
};

std::optional<Authority> find_digest(const SignatureSource& source, DigestAlgorithm algorithm,
                                     ByteSpan digest);

bool signs_this(const AuthenticodeSignature& signature, DigestAlgorithm algorithm, ByteSpan digest);

// Firmware tries every certificate; shim the first of each list, and none for modules only.
enum class CertificatesTried : uint8_t { kAll, kAsShim };
std::optional<Authority> find_certificate(const SignatureSource& source,
                                          const AuthenticodeSignature& signature,
                                          CertificatesTried tried);

// The entry that lists a certificate by the digest of its TBS part, as dbx may; firmware alone
// looks at these. A certificate without one counts as listed as soon as anything is.
std::optional<Authority> find_tbs_digest(const SignatureSource& source, ByteSpan der);

// "Debian Secure Boot Signer 2022 - grub2 (issued by Debian Secure Boot CA)".
std::string signers_in_words(const std::vector<ImageSignature>& signatures);

}  // namespace hf::secure_boot
