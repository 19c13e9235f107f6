// Certificates as Secure Boot uses them: what a person wants to know of one, and reading them from
// an operator's files.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace hf::secure_boot {

struct CertificateFacts {
  std::string common_name;  // of the subject; empty if there is none
  std::string subject;      // RFC 2253
  std::string issuer;
  std::string issuer_common_name;
  std::string serial;      // hex
  std::string not_before;  // 2011-06-27T21:22:45Z
  std::string not_after;
  std::string key;     // "RSA 2048", "EC 256", "other"
  Digest fingerprint;  // SHA-256 of the DER
  bool rsa = false;    // firmware takes no other keys into PK, KEK and db
  bool self_signed = false;
};

// kCorrupt: not exactly one certificate in DER. Validity in time is not judged: firmware ignores
// it.
Result<CertificateFacts> read_certificate(ByteSpan der);

// What a person calls it: the common name, else the whole subject.
std::string words(const CertificateFacts& facts);
// The same of who issued it: many authorities' names have no common name.
std::string issuer_words(const CertificateFacts& facts);

// Only who it is of. Reading the key as well costs fifty times as much, which counts where many
// boots are judged.
struct CertificateNames {
  std::string common_name;  // of the subject; empty if there is none
  ByteSpan subject;         // DER of the name, within the certificate; name_text() reads it
  Digest fingerprint;       // SHA-256 of the DER
};
// kCorrupt: not one certificate by its outline. Its key, dates and extensions are not looked at.
Result<CertificateNames> read_certificate_names(ByteSpan der);
std::string words(const CertificateNames& names);
// RFC 2253, control characters and quotes escaped; empty for what is no DER of a name.
std::string name_text(ByteSpan name);

inline constexpr size_t kCertificateFileBytesMax = size_t{1} << 20;
inline constexpr size_t kCertificatesInFileMax = 256;

// The certificates (DER) in a file's bytes: one DER certificate, or any number in PEM.
// kInvalidArgument: there is none, or one of them cannot be read. kLimit.
Result<std::vector<Bytes>> certificates_in(ByteSpan file);

}  // namespace hf::secure_boot
