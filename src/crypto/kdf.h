// Key derivation from what people choose: scrypt (RFC 7914). Keys derived from keys use HKDF
// (crypto.h).
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/secret.h"

namespace hf::crypto {

// Needs 128 * n * r bytes of memory and time in proportion to n * r * p.
struct ScryptCost {
  uint64_t n = 0;  // a power of two, greater than 1
  uint32_t r = 0;
  uint32_t p = 0;
  bool operator==(const ScryptCost&) const = default;
};

inline constexpr ScryptCost kScryptDefault{.n = 1 << 17, .r = 8, .p = 1};  // 128 MiB, about 0.4 s
inline constexpr uint64_t kScryptMaxMemory = 1ULL << 30;

// kInvalidArgument if the cost is out of bounds: costs read from a file are not trusted.
Result<Secret> scrypt(ByteSpan passphrase, ByteSpan salt, const ScryptCost& cost, size_t size);

}  // namespace hf::crypto
