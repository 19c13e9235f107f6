#include "crypto/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

namespace hf::crypto {
namespace {

const unsigned char* u8(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* u8(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

int length_of(ByteSpan bytes) {
  HF_ASSERT(bytes.size() <= static_cast<size_t>(INT32_MAX));
  return static_cast<int>(bytes.size());
}

// Fetched once: an implicit fetch on every call costs more than the hash of a short message.
const EVP_MD* sha256_method() {
  static EVP_MD* const method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  HF_ASSERT(method != nullptr);
  return method;
}

struct MdContext {
  EVP_MD_CTX* raw = EVP_MD_CTX_new();
  MdContext() { HF_ASSERT(raw != nullptr); }
  ~MdContext() { EVP_MD_CTX_free(raw); }
  MdContext(const MdContext&) = delete;
  MdContext& operator=(const MdContext&) = delete;
};

}  // namespace

Digest sha256(ByteSpan bytes) { return sha256(bytes, {}); }

Digest sha256(ByteSpan first, ByteSpan second) {
  thread_local MdContext context;
  Digest digest;
  HF_ASSERT(EVP_DigestInit_ex2(context.raw, sha256_method(), nullptr) == 1);
  HF_ASSERT(EVP_DigestUpdate(context.raw, first.data(), first.size()) == 1);
  if (!second.empty()) HF_ASSERT(EVP_DigestUpdate(context.raw, second.data(), second.size()) == 1);
  HF_ASSERT(EVP_DigestFinal_ex(context.raw, u8(digest.bytes.data()), nullptr) == 1);
  return digest;
}

struct Sha256::Impl {
  MdContext context;
  void start() { HF_ASSERT(EVP_DigestInit_ex2(context.raw, sha256_method(), nullptr) == 1); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) { impl_->start(); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(ByteSpan bytes) {
  HF_ASSERT(EVP_DigestUpdate(impl_->context.raw, bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  Digest digest;
  HF_ASSERT(EVP_DigestFinal_ex(impl_->context.raw, u8(digest.bytes.data()), nullptr) == 1);
  impl_->start();
  return digest;
}

Digest hmac_sha256(ByteSpan key, ByteSpan message) {
  if (key.empty()) key = as_bytes("");  // OpenSSL takes one without an address for none
  Digest digest;
  unsigned int length = 0;
  HF_ASSERT(HMAC(sha256_method(), key.data(), length_of(key), u8(message.data()), message.size(),
                 u8(digest.bytes.data()), &length) != nullptr);
  HF_ASSERT(length == digest.bytes.size());
  return digest;
}

Secret hkdf_sha256(ByteSpan key, ByteSpan salt, std::string_view info, size_t size) {
  HF_ASSERT(!key.empty() && size > 0 && size <= 255 * 32);
  if (salt.empty()) salt = as_bytes("");  // OpenSSL refuses one without an address
  if (info.empty()) info = "";
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  HF_ASSERT(kdf != nullptr);
  EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
  HF_ASSERT(context != nullptr);
  char digest[] = "SHA256";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<std::byte*>(key.data()),
                                        key.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, const_cast<std::byte*>(salt.data()),
                                        salt.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<char*>(info.data()),
                                        info.size()),
      OSSL_PARAM_construct_end()};
  Secret out(size);
  HF_ASSERT(EVP_KDF_derive(context, u8(out.mutable_span().data()), size, parameters) == 1);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  return out;
}

bool constant_time_equal(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// --- AES-256-GCM ------------------------------------------------------------------------------

// Both contexts keep the expanded key; a call sets only the nonce. Contexts hold key material:
// EVP_CIPHER_CTX_free cleanses it.
struct Aead::Impl {
  EVP_CIPHER_CTX* sealing = EVP_CIPHER_CTX_new();
  EVP_CIPHER_CTX* opening = EVP_CIPHER_CTX_new();
  ~Impl() {
    EVP_CIPHER_CTX_free(sealing);
    EVP_CIPHER_CTX_free(opening);
  }
};

Aead::Aead(const Secret& key) : impl_(std::make_unique<Impl>()) {
  HF_ASSERT(key.size() == kKeySize);
  static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  HF_ASSERT(cipher != nullptr && impl_->sealing != nullptr && impl_->opening != nullptr);
  const unsigned char* raw = u8(key.span().data());
  HF_ASSERT(EVP_EncryptInit_ex2(impl_->sealing, cipher, raw, nullptr, nullptr) == 1);
  HF_ASSERT(EVP_DecryptInit_ex2(impl_->opening, cipher, raw, nullptr, nullptr) == 1);
}

Aead::~Aead() = default;
Aead::Aead(Aead&&) noexcept = default;
Aead& Aead::operator=(Aead&&) noexcept = default;

void Aead::seal(const Nonce& nonce, ByteSpan aad, ByteSpan plaintext, MutableByteSpan out) {
  HF_ASSERT(out.size() == plaintext.size() + kTagSize);
  EVP_CIPHER_CTX* context = impl_->sealing;
  int length = 0;
  HF_ASSERT(EVP_EncryptInit_ex2(context, nullptr, nullptr, u8(nonce.data()), nullptr) == 1);
  if (!aad.empty()) {
    HF_ASSERT(EVP_EncryptUpdate(context, nullptr, &length, u8(aad.data()), length_of(aad)) == 1);
  }
  if (!plaintext.empty()) {
    HF_ASSERT(EVP_EncryptUpdate(context, u8(out.data()), &length, u8(plaintext.data()),
                                length_of(plaintext)) == 1);
    HF_ASSERT(static_cast<size_t>(length) == plaintext.size());
  }
  HF_ASSERT(EVP_EncryptFinal_ex(context, u8(out.data()) + plaintext.size(), &length) == 1);
  HF_ASSERT(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagSize,
                                out.data() + plaintext.size()) == 1);
}

Status Aead::open(const Nonce& nonce, ByteSpan aad, ByteSpan sealed, MutableByteSpan out) {
  if (sealed.size() < kTagSize) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "sealed bytes are shorter than their tag"};
  }
  HF_ASSERT(out.size() == sealed.size() - kTagSize);
  EVP_CIPHER_CTX* context = impl_->opening;
  int length = 0;
  HF_ASSERT(EVP_DecryptInit_ex2(context, nullptr, nullptr, u8(nonce.data()), nullptr) == 1);
  if (!aad.empty()) {
    HF_ASSERT(EVP_DecryptUpdate(context, nullptr, &length, u8(aad.data()), length_of(aad)) == 1);
  }
  if (!out.empty()) {
    HF_ASSERT(EVP_DecryptUpdate(context, u8(out.data()), &length, u8(sealed.data()),
                                static_cast<int>(out.size())) == 1);
  }
  HF_ASSERT(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagSize,
                                const_cast<std::byte*>(sealed.data() + out.size())) == 1);
  unsigned char rest[kTagSize];
  if (EVP_DecryptFinal_ex(context, rest, &length) != 1) {
    wipe(out);
    return Error{.code = ErrorCode::kWrongKey, .cause = "authentication tag does not verify"};
  }
  return {};
}

// --- Ed25519 ----------------------------------------------------------------------------------

struct SigningKey::Impl {
  EVP_PKEY* key = nullptr;
  ~Impl() { EVP_PKEY_free(key); }
};

SigningKey::SigningKey(const Secret& seed) : impl_(std::make_unique<Impl>()) {
  HF_ASSERT(seed.size() == 32);
  impl_->key =
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, u8(seed.span().data()), seed.size());
  HF_ASSERT(impl_->key != nullptr);
  size_t length = public_key_.size();
  HF_ASSERT(EVP_PKEY_get_raw_public_key(impl_->key, u8(public_key_.data()), &length) == 1);
  HF_ASSERT(length == public_key_.size());
}

SigningKey::~SigningKey() = default;
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;

Signature SigningKey::sign(ByteSpan message) const {
  MdContext context;
  Signature signature;
  size_t length = signature.size();
  HF_ASSERT(EVP_DigestSignInit(context.raw, nullptr, nullptr, nullptr, impl_->key) == 1);
  HF_ASSERT(EVP_DigestSign(context.raw, u8(signature.data()), &length, u8(message.data()),
                           message.size()) == 1);
  HF_ASSERT(length == signature.size());
  return signature;
}

bool verify(const PublicKey& key, ByteSpan message, const Signature& signature) {
  EVP_PKEY* raw =
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, u8(key.data()), key.size());
  if (raw == nullptr) return false;
  MdContext context;
  const bool good = EVP_DigestVerifyInit(context.raw, nullptr, nullptr, nullptr, raw) == 1 &&
                    EVP_DigestVerify(context.raw, u8(signature.data()), signature.size(),
                                     u8(message.data()), message.size()) == 1;
  EVP_PKEY_free(raw);
  return good;
}

void SystemRng::fill(MutableByteSpan out) {
  HF_ASSERT(RAND_bytes(u8(out.data()), length_of(out)) == 1);
}

}  // namespace hf::crypto
