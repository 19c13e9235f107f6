// A vault's statement "this Ed25519 key signs the journal of that VM". Peers pin the vault's
// signing key at pairing and accept closes only under a key so certified.
// Specification: docs/formats/vault.md, "Journal certificate".
//
//   offset size
//        0    4  magic "HFJC"
//        4    2  format version 1
//        6    2  zero
//        8   16  site whose vault certifies
//       24   16  VM
//       40    4  key version
//       44    4  zero
//       48   32  the journal's public key
//       80   64  Ed25519 by the vault over "holdfast journal certificate v1" ‖ the 80 bytes before
#pragma once

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"

namespace hf::vault {

inline constexpr size_t kJournalCertificateSize = 144;

struct JournalCertificate {
  SiteId site;
  VmId vm;
  KeyVersion version;
  crypto::PublicKey journal_public_key{};
  bool operator==(const JournalCertificate&) const = default;
};

Bytes sign_certificate(const JournalCertificate& certificate, const crypto::SigningKey& vault);
// kCorrupt: not this format. kWrongKey: not signed by `vault`.
Result<JournalCertificate> verify_certificate(ByteSpan bytes, const crypto::PublicKey& vault);

}  // namespace hf::vault
