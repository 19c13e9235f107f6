// What an operator's file holds for a signature database, whatever its form.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/change/profiles.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::secure_boot {

inline constexpr size_t kContentBytesMax = size_t{128} << 20;  // a PE image can be large

struct Content {
  SignatureDatabase signatures;
  std::string form;  // "a certificate", "a signed update (its signature was not checked)", …
};

// Signature lists; an authenticated update (its lists, on the operator's word); certificates in PEM
// or DER, owned by Microsoft if they are Microsoft's and by `owner` else; a PE image, whose
// Authenticode SHA-256 becomes a digest (and, where it is unsigned and signing would pad it, that
// of its signed form another one); lines of SHA-256 digests in hex. kInvalidArgument.
Result<Content> signatures_in(ByteSpan file, const Guid& owner = guids::kHoldfast);

// Certificates for profiles: a variable store (with what it holds as the template), certificates, a
// signed PE image (the certificates in its signatures), signature lists. kInvalidArgument.
Status add_certificates(CertificatePool& pool, ByteSpan file);

// Where Debian's packages keep what profiles are made of.
struct HostFile {
  std::string_view path;
  std::string_view package;
};
std::span<const HostFile> host_certificate_files();
// The loader that the profile `debian` admits by its digest.
inline constexpr std::string_view kHostShim = "/usr/lib/shim/shimx64.efi.signed";

}  // namespace hf::secure_boot
