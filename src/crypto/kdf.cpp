#include "crypto/kdf.h"

#include <openssl/evp.h>

#include <bit>

namespace hf::crypto {

Result<Secret> scrypt(ByteSpan passphrase, ByteSpan salt, const ScryptCost& cost, size_t size) {
  // Bounded factor by factor first, so that the product below cannot wrap.
  const bool sane = cost.n > 1 && std::has_single_bit(cost.n) && cost.n <= (1ULL << 24) &&
                    cost.r >= 1 && cost.r <= 64 && cost.p >= 1 && cost.p <= 64 &&
                    128 * cost.n * cost.r <= kScryptMaxMemory && size >= 1 && size <= 1024;
  if (!sane) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "scrypt cost out of bounds"};
  }
  Secret out(size);
  // OpenSSL counts its own small overhead against the limit too.
  const uint64_t memory_limit = kScryptMaxMemory + (64ULL << 20);
  const int ok = EVP_PBE_scrypt(reinterpret_cast<const char*>(passphrase.data()), passphrase.size(),
                                reinterpret_cast<const unsigned char*>(salt.data()), salt.size(),
                                cost.n, cost.r, cost.p, memory_limit,
                                reinterpret_cast<unsigned char*>(out.mutable_span().data()), size);
  if (ok != 1) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "scrypt failed (it needs 128 * n * r bytes of memory)"};
  }
  return out;
}

}  // namespace hf::crypto
