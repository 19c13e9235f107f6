// RSA and NIST-curve key pairs: for wrapping keys to a recipient (RSA-OAEP) and for X.509.
//
// Private halves leave only as PKCS #8 in a Secret. OpenSSL's own copy of a private key lives in
// ordinary heap memory, cleansed when freed: a process that holds one locks its memory as a whole.
#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/secret.h"

struct evp_pkey_st;

namespace hf::crypto {

struct EvpFree {
  void operator()(evp_pkey_st* key) const;
};
using EvpHandle = std::unique_ptr<evp_pkey_st, EvpFree>;

enum class KeyKind {
  kRsa,
  kEcP256,
  kEcP384,
};

// A public key of any kind above. Immutable.
class SpkiKey {
 public:
  // kCorrupt: not a SubjectPublicKeyInfo, or bytes after it. kUnsupported: another kind of key.
  static Result<SpkiKey> from_der(ByteSpan der);
  static Result<SpkiKey> from_pem(std::string_view pem);  // "PUBLIC KEY"
  static Result<SpkiKey> adopt(EvpHandle key);

  KeyKind kind() const { return kind_; }
  int bits() const;      // of the RSA modulus or the curve's order
  Bytes to_der() const;  // SubjectPublicKeyInfo
  std::string to_pem() const;
  Digest fingerprint() const;  // SHA-256 of to_der()
  evp_pkey_st* handle() const { return key_.get(); }

 private:
  SpkiKey(EvpHandle key, KeyKind kind) : key_(std::move(key)), kind_(kind) {}
  EvpHandle key_;
  KeyKind kind_;
};

class KeyPair {
 public:
  static KeyPair generate_rsa(int bits);
  static KeyPair generate_ec(KeyKind curve);
  static Result<KeyPair> from_pkcs8(ByteSpan der);
  Secret to_pkcs8() const;
  const SpkiKey& public_key() const { return public_; }
  evp_pkey_st* handle() const { return key_.get(); }

 private:
  KeyPair(EvpHandle key, SpkiKey public_key)
      : key_(std::move(key)), public_(std::move(public_key)) {}
  static KeyPair with_public(EvpHandle key);
  EvpHandle key_;
  SpkiKey public_;
};

// RSA public keys are what a recipient pins; the alias says where only RSA will do.
using RsaPublicKey = SpkiKey;

// RSAES-OAEP (RFC 8017, 7.1) with SHA-256 for both hashes. kInvalidArgument: not an RSA key, or the
// plaintext does not fit.
Result<Bytes> rsa_oaep_seal(const RsaPublicKey& key, ByteSpan label, ByteSpan plaintext);
// kWrongKey whatever the reason: telling reasons apart would be an oracle.
Result<Secret> rsa_oaep_open(const KeyPair& key, ByteSpan label, ByteSpan ciphertext);

}  // namespace hf::crypto
