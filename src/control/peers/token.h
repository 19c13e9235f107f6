// Pairing tokens and the proof that both sides know one.
//
// A token is base64url (RFC 4648, 5; no padding) of, little-endian:
//
//   offset size
//        0    4  magic "HFPT"
//        4    1  version 1
//        5    1  length of the address
//        6   16  site that issued it
//       22   32  SHA-256 of that site's CA certificate, DER
//       54   32  secret
//       86    n  address, "host:port"
//     86+n    4  first bytes of SHA-256 of everything before: finds a slip of copying, proves
//     nothing
//
// The issuer keeps SHA-256(secret) to find it by and the proof key,
// HKDF(secret, salt "holdfast", "holdfast pairing proof v1"), not the secret. Each side proves the
// key with HMAC(proof key, role ‖ exporter ‖ SHA-256(its identity as sent)): bound to this TLS
// connection and to what is to be pinned, so nobody in between can put in an identity of their own.
#pragma once

#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"

namespace hf::control {

inline constexpr size_t kTokenSecretSize = 32;
inline constexpr size_t kTokenAddressMax = 200;

struct PairingToken {
  SiteId site;
  Digest ca_fingerprint;
  crypto::Secret secret;
  std::string address;
};

std::string encode_token(const PairingToken& token);
// kInvalidArgument: not a token, or one with a slip in it.
Result<PairingToken> decode_token(std::string_view text);

Digest token_hash(const crypto::Secret& secret);
crypto::Secret token_proof_key(const crypto::Secret& secret);

enum class ProofRole { kIssuer, kBearer };
Digest pairing_proof(ByteSpan proof_key, ProofRole role, const Digest& exporter,
                     std::string_view identity);

}  // namespace hf::control
