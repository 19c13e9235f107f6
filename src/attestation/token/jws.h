// JSON Web Signatures in the one form we issue and take: compact (RFC 7515), ES256 (RFC 7518, 3.4).
//
// The allow-list has one entry. A token with any other "alg", with "crit", without a known "kid",
// with a member twice, or with base64url that is not the canonical one is refused; keys and
// addresses in a token's header ("jwk", "jku", "x5c", "x5u") are never looked at.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/key_pair.h"
#include "crypto/x509.h"
#include "sys/json.h"

namespace hf::attestation {

inline constexpr size_t kTokenMax = size_t{256} << 10;
inline constexpr size_t kKeySetTextMax = size_t{256} << 10;
inline constexpr size_t kKeySetKeysMax = 64;
inline constexpr size_t kEs256SignatureSize = 64;  // r ‖ s, 32 octets each

// Signs SHA-256 of the bytes with ECDSA on P-256: raw r ‖ s.
using Es256Signer = std::function<Result<Bytes>(ByteSpan)>;
// With a key at hand: tests, benches. The site's own key signs inside the vault.
Result<Bytes> es256_sign(const crypto::KeyPair& key, ByteSpan bytes);

struct VerifyKey {
  std::string kid;
  crypto::SpkiKey key;  // on P-256
};

// A JWK Set (RFC 7517). Keys of other types or uses are left out, as the RFC asks.
class KeySet {
 public:
  // kInvalidArgument: not a key set; an EC P-256 key in it that is broken; a kid twice.
  static Result<KeySet> parse(std::string_view json);
  static KeySet of(std::vector<VerifyKey> keys) { return KeySet(std::move(keys)); }
  const VerifyKey* find(std::string_view kid) const;
  const std::vector<VerifyKey>& keys() const { return keys_; }

 private:
  explicit KeySet(std::vector<VerifyKey> keys) : keys_(std::move(keys)) {}
  std::vector<VerifyKey> keys_;
};

// The JWK of a P-256 key for signing with ES256, its kid being its RFC 7638 thumbprint (SHA-256,
// base64url); `chain`: certificates for "x5c", the key's own first. kUnsupported: another kind.
Result<sys::JsonObject> to_jwk(const crypto::SpkiKey& key,
                               const std::vector<crypto::Certificate>& chain = {});
Result<std::string> thumbprint(const crypto::SpkiKey& key);

// header.payload.signature with {"alg":"ES256","kid":…,"typ":…}.
Result<std::string> sign_token(std::string_view payload, std::string_view kid,
                               std::string_view type, const Es256Signer& sign);

struct VerifiedToken {
  sys::JsonObject payload;
  std::string kid;
  std::string type;  // "typ", empty if there was none
};
// kWrongKey: unknown kid or bad signature. kInvalidArgument, kUnsupported, kLimit: not a token of
// ours to take.
Result<VerifiedToken> verify_token(std::string_view token, const KeySet& keys);

}  // namespace hf::attestation
