#include "attestation/tpm/credential.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include <array>
#include <memory>

#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

constexpr std::string_view kIdentity{"IDENTITY\0", 9};  // labels include their NUL

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

struct KeyContextFree {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, KeyContextFree>;

const unsigned char* from(ByteSpan bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* into(MutableByteSpan bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

std::string openssl_name(HashAlg alg) {
  std::string name(name_of(alg));
  return name;  // OpenSSL's names ignore case: sha256
}

void append_sized(Bytes& out, ByteSpan bytes) {  // TPM2B
  HF_ASSERT(bytes.size() <= UINT16_MAX);
  std::array<std::byte, 2> size;
  store_be(size.data(), static_cast<uint16_t>(bytes.size()));
  out.insert(out.end(), size.begin(), size.end());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

crypto::Secret derive(const char* kdf_name, const OSSL_PARAM* parameters, size_t size) {
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, kdf_name, nullptr);
  HF_ASSERT(kdf != nullptr);
  EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
  HF_ASSERT(context != nullptr);
  crypto::Secret out(size);
  HF_ASSERT(EVP_KDF_derive(context, into(out.mutable_span()), size, parameters) == 1);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  return out;
}

OSSL_PARAM octets(const char* name, ByteSpan bytes) {
  return OSSL_PARAM_construct_octet_string(name, const_cast<std::byte*>(bytes.data()),
                                           bytes.size());
}

// KDFa (part 1, "KDFa()"): SP 800-108 in counter mode with HMAC; OpenSSL puts the NUL between label
// and context, and the length in bits behind.
crypto::Secret kdf_a(HashAlg alg, ByteSpan key, std::string_view label, ByteSpan context,
                     size_t size) {
  std::string digest = openssl_name(alg);
  char mode[] = "counter";
  char mac[] = "HMAC";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MODE, mode, 0),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MAC, mac, 0),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      octets(OSSL_KDF_PARAM_KEY, key),
      octets(OSSL_KDF_PARAM_SALT, as_bytes(label)),
      octets(OSSL_KDF_PARAM_INFO, context),
      OSSL_PARAM_construct_end()};
  return derive("KBKDF", parameters, size);
}

// KDFe (part 1, "KDFe for ECDH"): SP 800-56A's single-step KDF with a hash.
crypto::Secret kdf_e(HashAlg alg, ByteSpan shared, ByteSpan party_u, ByteSpan party_v,
                     size_t size) {
  std::string digest = openssl_name(alg);
  Bytes info(as_bytes(kIdentity).begin(), as_bytes(kIdentity).end());
  info.insert(info.end(), party_u.begin(), party_u.end());
  info.insert(info.end(), party_v.begin(), party_v.end());
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      octets(OSSL_KDF_PARAM_SECRET, shared), octets(OSSL_KDF_PARAM_INFO, info),
      OSSL_PARAM_construct_end()};
  return derive("SSKDF", parameters, size);
}

struct Seed {
  crypto::Secret seed;
  Bytes encrypted;  // the content of TPM2B_ENCRYPTED_SECRET
};

Result<Seed> seed_by_rsa(const TpmPublic& ek, EVP_PKEY* key) {
  Seed out{.seed = crypto::Secret(size_of(ek.name_algorithm))};
  crypto::SystemRng().fill(out.seed.mutable_span());
  const std::string digest = openssl_name(ek.name_algorithm);
  const EVP_MD* method = EVP_get_digestbyname(digest.c_str());
  const KeyContext context(EVP_PKEY_CTX_new(key, nullptr));
  HF_ASSERT(method != nullptr && context != nullptr);
  HF_ASSERT(EVP_PKEY_encrypt_init(context.get()) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), method) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), method) == 1);
  void* label = OPENSSL_memdup(kIdentity.data(), kIdentity.size());  // the context owns it
  HF_ASSERT(label != nullptr && EVP_PKEY_CTX_set0_rsa_oaep_label(
                                    context.get(), label, static_cast<int>(kIdentity.size())) == 1);
  size_t size = ek.rsa_modulus.size();
  out.encrypted.resize(size);
  if (EVP_PKEY_encrypt(context.get(), into(out.encrypted), &size, from(out.seed.span()),
                       out.seed.size()) != 1) {
    ERR_clear_error();
    return invalid("the endorsement key does not encrypt");
  }
  out.encrypted.resize(size);
  return out;
}

// x and y of an uncompressed point, each as long as the curve's field.
struct Point {
  Bytes x, y;
};
Point point_of(EVP_PKEY* key) {
  std::array<std::byte, 1 + 2 * 66> encoded;
  size_t size = 0;
  HF_ASSERT(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, into(encoded),
                                            encoded.size(), &size) == 1);
  HF_ASSERT(size % 2 == 1 && encoded[0] == std::byte{4});
  const size_t field = size / 2;
  const ByteSpan body = ByteSpan(encoded).subspan(1, 2 * field);
  return {.x = Bytes(body.begin(), body.begin() + static_cast<ptrdiff_t>(field)),
          .y = Bytes(body.begin() + static_cast<ptrdiff_t>(field), body.end())};
}

Result<Seed> seed_by_ecdh(const TpmPublic& ek, EVP_PKEY* key) {
  const char* curve = ek.curve == kCurveP256 ? "P-256" : "P-384";
  const crypto::EvpHandle ephemeral(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve));
  const KeyContext context(EVP_PKEY_CTX_new(ephemeral.get(), nullptr));
  HF_ASSERT(ephemeral != nullptr && context != nullptr && EVP_PKEY_derive_init(context.get()) == 1);
  if (EVP_PKEY_derive_set_peer(context.get(), key) != 1) {
    ERR_clear_error();
    return invalid("the endorsement key is not a point of its curve");
  }
  crypto::Secret shared(ek.curve == kCurveP256 ? 32 : 48);
  size_t size = shared.size();
  HF_ASSERT(EVP_PKEY_derive(context.get(), into(shared.mutable_span()), &size) == 1);
  HF_ASSERT(size == shared.size());
  const Point ours = point_of(ephemeral.get());
  const Point theirs = point_of(key);
  Seed out{.seed = kdf_e(ek.name_algorithm, shared.span(), ours.x, theirs.x,
                         size_of(ek.name_algorithm))};
  append_sized(out.encrypted, ours.x);  // TPMS_ECC_POINT
  append_sized(out.encrypted, ours.y);
  return out;
}

// AES-CFB with a zero IV: the key is fresh each time.
Bytes encrypt_identity(const crypto::Secret& key, ByteSpan identity) {
  const char* name = key.size() == 16 ? "AES-128-CFB" : "AES-256-CFB";
  EVP_CIPHER* cipher = EVP_CIPHER_fetch(nullptr, name, nullptr);
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  HF_ASSERT(cipher != nullptr && context != nullptr);
  const std::array<unsigned char, 16> iv{};
  Bytes out(identity.size());
  int length = 0;
  HF_ASSERT(EVP_EncryptInit_ex2(context, cipher, from(key.span()), iv.data(), nullptr) == 1);
  HF_ASSERT(EVP_EncryptUpdate(context, into(out), &length, from(identity),
                              static_cast<int>(identity.size())) == 1);
  HF_ASSERT(static_cast<size_t>(length) == out.size());
  EVP_CIPHER_CTX_free(context);
  EVP_CIPHER_free(cipher);
  return out;
}

Bytes hmac(HashAlg alg, ByteSpan key, ByteSpan first, ByteSpan second) {
  Bytes message(first.begin(), first.end());
  message.insert(message.end(), second.begin(), second.end());
  Bytes out(size_of(alg));
  unsigned int length = 0;
  const EVP_MD* method = EVP_get_digestbyname(openssl_name(alg).c_str());
  HF_ASSERT(HMAC(method, key.data(), static_cast<int>(key.size()), from(message), message.size(),
                 into(out), &length) != nullptr);
  HF_ASSERT(length == out.size());
  return out;
}

Status check_ek(const TpmPublic& ek) {
  const bool storage = (ek.attributes & kAttributeDecrypt) != 0 &&
                       (ek.attributes & kAttributeRestricted) != 0 &&
                       (ek.attributes & kAttributeSign) == 0;
  if (!storage) return invalid("the endorsement key is not a restricted decryption key");
  const bool aes = ek.symmetric == kAlgAes && ek.symmetric_mode == kAlgCfb &&
                   (ek.symmetric_bits == 128 || ek.symmetric_bits == 256);
  if (!aes) return invalid("the endorsement key protects with something else than AES-CFB");
  if (ek.name_algorithm == HashAlg::kSha1) return invalid("the endorsement key's name is a SHA-1");
  return {};
}

}  // namespace

Result<Credential> make_credential(const TpmPublic& ek, ByteSpan ak_name, ByteSpan secret) {
  TRY(check_ek(ek));
  const size_t digest_size = size_of(ek.name_algorithm);
  if (secret.empty() || secret.size() > digest_size) {
    return invalid("a credential holds 1 to " + std::to_string(digest_size) + " bytes");
  }
  const crypto::EvpHandle key = TRY(openssl_key(ek));
  const Seed seed =
      TRY(ek.type == kAlgRsa ? seed_by_rsa(ek, key.get()) : seed_by_ecdh(ek, key.get()));
  const crypto::Secret symmetric =
      kdf_a(ek.name_algorithm, seed.seed.span(), "STORAGE", ak_name, ek.symmetric_bits / 8);
  const crypto::Secret integrity =
      kdf_a(ek.name_algorithm, seed.seed.span(), "INTEGRITY", {}, digest_size);
  Bytes identity;
  append_sized(identity, secret);
  const Bytes encrypted = encrypt_identity(symmetric, identity);
  crypto::wipe(identity);
  Bytes object;
  append_sized(object, hmac(ek.name_algorithm, integrity.span(), encrypted, ak_name));
  object.insert(object.end(), encrypted.begin(), encrypted.end());
  Credential credential;
  append_sized(credential.id_object, object);
  append_sized(credential.encrypted_secret, seed.encrypted);
  return credential;
}

}  // namespace hf::attestation
