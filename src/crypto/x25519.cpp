#include "crypto/x25519.h"

#include <openssl/evp.h>

#include <algorithm>

#include "crypto/crypto.h"
#include "crypto/key_pair.h"

namespace hf::crypto {

namespace {

const unsigned char* u8(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* u8(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

struct ContextFree {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};

EvpHandle private_key(const Secret& scalar) {
  EvpHandle key(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, u8(scalar.span().data()),
                                             scalar.size()));
  HF_ASSERT(key != nullptr);
  return key;
}

}  // namespace

X25519Key X25519Key::generate(Rng& rng) {
  Secret scalar(kX25519Size);
  rng.fill(scalar.mutable_span());
  return X25519Key(std::move(scalar));
}

X25519Key::X25519Key(Secret scalar) : scalar_(std::move(scalar)) {
  HF_ASSERT(scalar_.size() == kX25519Size);
  const EvpHandle key = private_key(scalar_);
  size_t length = public_key_.size();
  HF_ASSERT(EVP_PKEY_get_raw_public_key(key.get(), u8(public_key_.data()), &length) == 1);
  HF_ASSERT(length == public_key_.size());
}

Result<Secret> X25519Key::agree(const X25519PublicKey& peer) const {
  const EvpHandle own = private_key(scalar_);
  const EvpHandle other(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, u8(peer.data()), peer.size()));
  HF_ASSERT(other != nullptr);  // any 32 bytes are a public key
  const std::unique_ptr<EVP_PKEY_CTX, ContextFree> context(EVP_PKEY_CTX_new(own.get(), nullptr));
  HF_ASSERT(context != nullptr && EVP_PKEY_derive_init(context.get()) == 1);
  Secret shared(kX25519Size);
  size_t length = shared.size();
  // OpenSSL refuses an all-zero result, here or in the derivation; other versions may not.
  const bool derived =
      EVP_PKEY_derive_set_peer(context.get(), other.get()) == 1 &&
      EVP_PKEY_derive(context.get(), u8(shared.mutable_span().data()), &length) == 1;
  if (derived) HF_ASSERT(length == shared.size());
  const std::array<std::byte, kX25519Size> zeroes{};
  if (!derived || constant_time_equal(shared.span(), zeroes)) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "the peer's X25519 key is a point of small order"};
  }
  return shared;
}

}  // namespace hf::crypto
