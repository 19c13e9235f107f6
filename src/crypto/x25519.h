// X25519 key agreement (RFC 7748), for keys that live as long as one session.
#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "crypto/secret.h"

namespace hf::crypto {

inline constexpr size_t kX25519Size = 32;
using X25519PublicKey = std::array<std::byte, kX25519Size>;

// One pair of keys. The private half is wiped when it goes. One thread.
class X25519Key {
 public:
  static X25519Key generate(Rng& rng);
  explicit X25519Key(Secret scalar);  // kX25519Size bytes (asserted); clamped as the RFC says

  const X25519PublicKey& public_key() const { return public_key_; }
  // The shared secret, as RFC 7748 has it: hash it before it is a key. kCorrupt if it is all
  // zeroes, which is what a peer gets who sends a point of small order to know the result
  // beforehand.
  Result<Secret> agree(const X25519PublicKey& peer) const;

 private:
  Secret scalar_;
  X25519PublicKey public_key_{};
};

}  // namespace hf::crypto
