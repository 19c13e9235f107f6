// A VM's key wrapped to another site: what crosses between vaults and stands in a daemon's catalog.
// Specification: docs/formats/vault.md, "Wrap".
//
//   offset size
//        0    4  magic "HFWB"
//        4    2  format version 1
//        6    2  algorithm: 1 = RSA-OAEP, SHA-256 for hash and MGF1 (RFC 8017, 7.1)
//        8   16  VM
//       24   16  key id
//       40    4  key version
//       44    4  length of the ciphertext
//       48   16  site that wrapped
//       64   16  recipient site
//       80   32  SHA-256 of the recipient's SubjectPublicKeyInfo, DER
//      112    8  time, microseconds since the Unix epoch
//      120    8  zero
//      128       ciphertext of the 32 key bytes; OAEP label = SHA-256 of the 128 bytes before
//                signature, 64 bytes: Ed25519 by the wrapping vault over
//                "holdfast key wrap v1" ‖ everything before
//
// The label ties the ciphertext to its header even for someone who can sign; the signature ties
// both to a vault that the recipient has pinned.
#pragma once

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"
#include "crypto/key_pair.h"
#include "crypto/secret.h"
#include "vault/protocol/types.h"

namespace hf::vault {

inline constexpr size_t kWrapHeaderSize = 128;
inline constexpr size_t kMaxWrapSize = kWrapHeaderSize + 1024 + crypto::kSignatureSize;

struct WrapFacts {
  VmId vm;
  KeyId key_id;
  KeyVersion version;
  SiteId from;
  SiteId recipient;
  Digest recipient_key;  // SHA-256 of the recipient's SPKI
  Micros time;
};

struct ParsedWrap {
  WrapFacts facts;
  ByteSpan header;  // these three point into the blob
  ByteSpan ciphertext;
  crypto::Signature signature{};
};

// `facts.recipient_key` is filled in from `recipient`.
Result<Bytes> seal_wrap(WrapFacts facts, const crypto::Secret& key,
                        const crypto::RsaPublicKey& recipient, const crypto::SigningKey& signer);
// Checks the form only. kCorrupt, kUnsupported.
Result<ParsedWrap> parse_wrap(ByteSpan blob);
bool wrap_signed_by(const ParsedWrap& wrap, const crypto::PublicKey& signer);
// kWrongKey if the ciphertext, label or key id does not fit. The signature is the caller's to check
// first.
Result<crypto::Secret> open_wrap(const ParsedWrap& wrap, const crypto::KeyPair& recipient);

KeyId key_id_of(const crypto::Secret& key);

}  // namespace hf::vault
