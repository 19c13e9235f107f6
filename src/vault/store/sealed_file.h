// The one file format of the vault's directory: a clear part and a sealed part, both authenticated.
// Specification: docs/formats/vault.md, "Sealed file". Little-endian.
//
//   offset size
//        0    4  magic "HFVF"
//        4    2  format version 1
//        6    2  kind
//        8    4  c: length of the clear part
//       12    4  s: length of the sealed part, its 16-byte tag included
//       16   32  salt, random, fresh at every write
//       48    c  clear part
//     48+c    s  AES-256-GCM, key = HKDF-SHA256(KEK, salt, "holdfast vault file v1"), nonce 0,
//                additional data = all bytes before
//   48+c+s    4  CRC-32C of all bytes before
//
// Why not AES-KW (RFC 3394): it wraps a key but cannot bind what the key is for (VM, version, id,
// who made it), and binding is what stops one VM's file from being put in another's place. GCM with
// a key of its own per write needs no nonce bookkeeping: each (key, nonce) pair is used once,
// however often a file is rewritten or the directory restored from a copy. The CRC proves nothing
// about who wrote the file; it tells "damaged" from "wrong secret", which need different mending.
#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "crypto/secret.h"

namespace hf::vault {

enum class FileKind : uint16_t {
  kSite = 1,
  kKey = 2,
  kRecipient = 3,
  kFreshness = 4,
  kAttestationKey = 5,
  kAttestation = 6,
  kPairingOffer = 7,
  kMembers = 8,
  kTitle = 9,
};

inline constexpr size_t kSealedFileMax = 64 * 1024;
// Of a title, which grows by a statement with each act: at most title::kChainSizeMax and a little.
inline constexpr size_t kTitleFileMax = 4 * 1024 * 1024;

struct ParsedFile {
  ByteSpan whole;  // these point into the file's bytes
  ByteSpan salt;
  ByteSpan clear;
  ByteSpan sealed;
};

Bytes seal_file(FileKind kind, const crypto::Secret& kek, ByteSpan clear, ByteSpan plaintext,
                Rng& rng);
// Form and CRC only: the clear part is not to be trusted before open_file(). kCorrupt,
// kUnsupported. `name` is for the messages.
Result<ParsedFile> parse_file(FileKind kind, ByteSpan bytes, const std::string& name);
// The sealed part in clear; also proves the clear part. kCorrupt.
Result<crypto::Secret> open_file(const ParsedFile& file, const crypto::Secret& kek,
                                 const std::string& name);

}  // namespace hf::vault
