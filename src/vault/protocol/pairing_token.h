// What one operator carries to the other to pair two sites: a one-time token. It is made at the
// vault's socket for operators and taken there at the other site, by `holdfast site pair`;
// holdfastd sees its id only, at either site.
//
// A token is base64url (RFC 4648, 5; no padding) of, little-endian:
//
//   offset size
//        0    4  magic "HFPT"
//        4    1  version 2
//        5    1  length of the address
//        6   16  site that issued it
//       22   32  SHA-256 of that site's CA certificate, DER
//       54   32  SHA-256 of that site's identity (docs/formats/vault.md): all that is to be pinned
//       86   32  secret
//      118    n  address, "host:port"
//    118+n    4  first bytes of SHA-256 of everything before: finds a slip of copying, proves
//                nothing
//
// So who bears it knows the issuer's keys from the operator's hand; the issuer knows the bearer's
// by a proof with the secret.
#pragma once

#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/secret.h"
#include "vault/protocol/types.h"

namespace hf::vault {

inline constexpr size_t kTokenSecretSize = 32;
inline constexpr size_t kTokenAddressMax = 200;

struct PairingToken {
  SiteId site;
  Digest ca_fingerprint;
  Digest identity;
  crypto::Secret secret;
  std::string address;
};

std::string encode_token(const PairingToken& token);
// kInvalidArgument: not a token, or one with a slip in it.
Result<PairingToken> decode_token(std::string_view text);

// Names a token without revealing it.
PairingTokenId token_id_of(const crypto::Secret& secret);
// SHA-256 of the identity as it is encoded.
Digest identity_digest(const SiteIdentity& identity);

}  // namespace hf::vault
