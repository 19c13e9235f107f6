// An Authenticode signature: PKCS#7 SignedData over the digest of a PE image.
//
// Source: "Windows Authenticode Portable Executable Signature Format" (2008); how a certificate is
// found to stand behind it: edk2, CryptPkcs7VerifyCommon.c. OpenSSL does the cryptography.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/efi/image_digest.h"

namespace hf::secure_boot {

inline constexpr size_t kSignatureBytesMax = size_t{256} << 10;
inline constexpr int kSignatureCertificatesMax = 64;
inline constexpr int kSignersMax = 4;

class AuthenticodeSignature {
 public:
  // kInvalidArgument: not such a signature, and in what; kLimit.
  static Result<AuthenticodeSignature> parse(ByteSpan pkcs7);
  ~AuthenticodeSignature();
  AuthenticodeSignature(AuthenticodeSignature&&) noexcept;
  AuthenticodeSignature& operator=(AuthenticodeSignature&&) noexcept;

  DigestAlgorithm algorithm() const;
  ByteSpan image_digest() const;                   // what was signed
  const std::vector<Bytes>& signers() const;       // DER, of those who signed
  const std::vector<Bytes>& certificates() const;  // DER, all that it carries

  // Is the signature right, and does a chain lead from every signer to `trusted` (DER)? `trusted`
  // may stand anywhere in the chain: a root, an intermediate or the signer itself. As in firmware,
  // validity in time and key usage are not looked at. The image's digest is not compared here.
  bool chains_to(ByteSpan trusted) const;

 private:
  struct Impl;
  explicit AuthenticodeSignature(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Digest of a certificate's TBSCertificate, as dbx lists of type EFI_CERT_X509_SHA* hold it;
// nothing if `der` is no certificate.
std::optional<Bytes> tbs_digest(DigestAlgorithm algorithm, ByteSpan der);
// Has it the extended key usage that Linux distributions give to keys that sign only modules?
// shim passes over such certificates.
bool is_module_signing_only(ByteSpan der);

}  // namespace hf::secure_boot
