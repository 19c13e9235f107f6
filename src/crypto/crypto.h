// The cryptographic primitives Holdfast composes, all of them OpenSSL's. No algorithm is our own.
//
// Failures that only a bug or a broken OpenSSL can cause assert; a tag or signature that does not
// verify is an ordinary result (kWrongKey / false).
#pragma once

#include <array>
#include <memory>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/secret.h"

namespace hf::crypto {

inline constexpr size_t kKeySize = 32;
inline constexpr size_t kTagSize = 16;
inline constexpr size_t kNonceSize = 12;
inline constexpr size_t kSignatureSize = 64;
inline constexpr size_t kPublicKeySize = 32;

using Nonce = std::array<std::byte, kNonceSize>;
using Signature = std::array<std::byte, kSignatureSize>;
using PublicKey = std::array<std::byte, kPublicKeySize>;

Digest sha256(ByteSpan bytes);
Digest sha256(ByteSpan first, ByteSpan second);  // of the concatenation

// Incremental SHA-256; reset by finish().
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(ByteSpan bytes);
  Digest finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

Digest hmac_sha256(ByteSpan key, ByteSpan message);

// HKDF-SHA256 (RFC 5869), extract and expand, `size` bytes out (at most 255 * 32). The key is not
// empty: OpenSSL has no such one.
Secret hkdf_sha256(ByteSpan key, ByteSpan salt, std::string_view info, size_t size);

bool constant_time_equal(ByteSpan a, ByteSpan b);  // false at once if the lengths differ

// AES-256-GCM with a fixed key (NIST SP 800-38D). The caller owns nonce uniqueness. One thread.
class Aead {
 public:
  explicit Aead(const Secret& key);  // kKeySize bytes
  ~Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;

  // `out` holds plaintext.size() + kTagSize: ciphertext, then tag. May not overlap the plaintext.
  void seal(const Nonce& nonce, ByteSpan aad, ByteSpan plaintext, MutableByteSpan out);
  // `sealed` = ciphertext ‖ tag; `out` holds sealed.size() - kTagSize. On failure `out` is zeroed.
  Status open(const Nonce& nonce, ByteSpan aad, ByteSpan sealed, MutableByteSpan out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Ed25519 (RFC 8032).
class SigningKey {
 public:
  explicit SigningKey(const Secret& seed);  // 32 bytes
  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;
  Signature sign(ByteSpan message) const;
  const PublicKey& public_key() const { return public_key_; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  PublicKey public_key_{};
};
bool verify(const PublicKey& key, ByteSpan message, const Signature& signature);

// The operating system's entropy, through OpenSSL.
class SystemRng final : public Rng {
 public:
  void fill(MutableByteSpan out) override;
};

}  // namespace hf::crypto
