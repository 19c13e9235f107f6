// Signature databases: the content of PK, KEK, db, dbx and MokList, a row of EFI_SIGNATURE_LISTs
// (UEFI Specification 2.10, 32.4.1).
//
//   EFI_SIGNATURE_LIST:  type GUID | u32 list size | u32 header size | u32 signature size
//                        | header | signature | signature | …
//   a signature:         owner GUID | data (a certificate in DER, a digest, …)
//
// A parsed database gives its bytes back exactly. Nothing here trusts a size it has not checked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "secure_boot/efi/guid.h"

namespace hf::secure_boot {

inline constexpr size_t kSignatureListHeaderSize = 28;
inline constexpr size_t kDatabaseBytesMax = size_t{1} << 20;  // firmware takes about 32 KiB
inline constexpr size_t kSignaturesMax = size_t{1} << 15;

struct Signature {
  Guid owner;
  Bytes data;
  bool operator==(const Signature&) const = default;
};

struct SignatureList {
  Guid type;
  Bytes header;                 // empty for every type of the specification
  uint32_t signature_size = 0;  // with the owner
  std::vector<Signature> signatures;
  bool operator==(const SignatureList&) const = default;
};

class SignatureDatabase {
 public:
  SignatureDatabase() = default;
  // No bytes are the empty database. kCorrupt names the list and what is wrong; kLimit.
  static Result<SignatureDatabase> parse(ByteSpan bytes);
  static SignatureDatabase of_certificate(const Guid& owner, ByteSpan der);
  static SignatureDatabase of_sha256(const Guid& owner, const std::vector<Digest>& digests);

  Bytes to_bytes() const;
  const std::vector<SignatureList>& lists() const { return lists_; }
  bool empty() const { return size() == 0; }
  size_t size() const;  // signatures

  bool contains(const Guid& type, ByteSpan data) const;  // whoever owns it
  std::vector<ByteSpan> certificates() const;            // DER; live as long as this

  // What a SetVariable with EFI_VARIABLE_APPEND_WRITE does: signatures that are there already
  // (type, owner and data) are left out, the rest follows in lists of its own. How many came.
  size_t append(const SignatureDatabase& more);
  // By type and data, whoever owns them; empty lists go. How many went.
  size_t remove(const SignatureDatabase& which);

  bool operator==(const SignatureDatabase&) const = default;

 private:
  std::vector<SignatureList> lists_;
};

// Firmware takes into PK, KEK, db and dbx only what it can check: known types of the right size,
// RSA certificates, one PK at most. kInvalidArgument says which signature it would refuse.
// (edk2, SecurityPkg/Library/AuthVariableLib, CheckSignatureListFormat.)
Status check_firmware_takes(const SignatureDatabase& database, bool platform_key);

// Of an entry that only looks like a digest.
inline constexpr std::string_view kSecurityVersionType = "SVN";

// A signature in words.
struct SignatureWords {
  std::string type;   // "X509", "SHA256", "SVN", … or the GUID
  std::string owner;  // a name or the GUID
  std::string owner_guid;
  // "Microsoft Corporation UEFI CA 2011"; the digest in hex; "bootmgfw.efi below security version
  // 7.0".
  std::string title;
  std::string detail;       // "issued by …, RSA 2048, until 2026-06-27"; empty if there is no more
  std::string fingerprint;  // SHA-256 of the data, hex; for digests the digest itself
};
SignatureWords describe(const SignatureList& list, const Signature& signature);

}  // namespace hf::secure_boot
