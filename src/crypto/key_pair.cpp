#include "crypto/key_pair.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <climits>
#include <cstring>

#include "crypto/crypto.h"
#include "crypto/memory_bio.h"

namespace hf::crypto {
namespace {

const unsigned char* u8(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* u8(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

struct ContextFree {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using ContextHandle = std::unique_ptr<EVP_PKEY_CTX, ContextFree>;

Error bad_key(ErrorCode code, std::string cause) {
  ERR_clear_error();
  return Error{.code = code, .cause = std::move(cause)};
}

Result<KeyKind> kind_of(EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "RSA")) return KeyKind::kRsa;
  if (EVP_PKEY_is_a(key, "EC")) {
    char group[64] = {};
    size_t length = 0;
    if (EVP_PKEY_get_group_name(key, group, sizeof group, &length) == 1) {
      const std::string_view name(group, length);
      if (name == "prime256v1" || name == "P-256") return KeyKind::kEcP256;
      if (name == "secp384r1" || name == "P-384") return KeyKind::kEcP384;
    }
  }
  return bad_key(ErrorCode::kUnsupported, "a key that is neither RSA nor on P-256 or P-384");
}

// A passphrase callback that has none: an encrypted PEM is refused instead of asked about on the
// terminal, which is what OpenSSL does by default.
int no_passphrase(char*, int, int, void*) { return -1; }

Result<ContextHandle> oaep_context(EVP_PKEY* key, ByteSpan label,
                                   int (*initialise)(EVP_PKEY_CTX*)) {
  ContextHandle context(EVP_PKEY_CTX_new(key, nullptr));
  HF_ASSERT(context != nullptr);
  if (!EVP_PKEY_is_a(key, "RSA") || initialise(context.get()) != 1) {
    return bad_key(ErrorCode::kInvalidArgument, "a key that RSA-OAEP cannot use");
  }
  // OpenSSL takes ownership of the label, and frees it with OPENSSL_free.
  void* copy = OPENSSL_memdup(label.data(), label.size());
  HF_ASSERT(copy != nullptr || label.empty());
  HF_ASSERT(EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), EVP_sha256()) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), EVP_sha256()) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set0_rsa_oaep_label(context.get(), copy, static_cast<int>(label.size())) ==
            1);
  return context;
}

}  // namespace

void EvpFree::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

Result<SpkiKey> SpkiKey::adopt(EvpHandle key) {
  HF_ASSERT(key != nullptr);
  const KeyKind kind = TRY(kind_of(key.get()));
  return SpkiKey(std::move(key), kind);
}

Result<SpkiKey> SpkiKey::from_der(ByteSpan der) {
  const unsigned char* at = u8(der.data());
  const auto length = static_cast<long>(std::min<size_t>(der.size(), LONG_MAX));
  EvpHandle key(d2i_PUBKEY(nullptr, &at, length));
  if (key == nullptr || at != u8(der.data()) + der.size()) {
    return bad_key(ErrorCode::kCorrupt, "not a SubjectPublicKeyInfo");
  }
  return adopt(std::move(key));
}

Result<SpkiKey> SpkiKey::from_pem(std::string_view pem) {
  BioHandle bio = reader_of(as_bytes(pem));
  EvpHandle key(PEM_read_bio_PUBKEY(bio.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) return bad_key(ErrorCode::kCorrupt, "not a public key in PEM");
  return adopt(std::move(key));
}

int SpkiKey::bits() const { return EVP_PKEY_get_bits(key_.get()); }

Bytes SpkiKey::to_der() const {
  const int length = i2d_PUBKEY(key_.get(), nullptr);
  HF_ASSERT(length > 0);
  Bytes out(static_cast<size_t>(length));
  unsigned char* at = u8(out.data());
  HF_ASSERT(i2d_PUBKEY(key_.get(), &at) == length);
  return out;
}

std::string SpkiKey::to_pem() const {
  BioHandle bio(BIO_new(BIO_s_mem()));
  HF_ASSERT(bio != nullptr && PEM_write_bio_PUBKEY(bio.get(), key_.get()) == 1);
  char* text = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(length)};
}

Digest SpkiKey::fingerprint() const { return sha256(to_der()); }

KeyPair KeyPair::with_public(EvpHandle key) {
  HF_ASSERT(key != nullptr);
  const int length = i2d_PUBKEY(key.get(), nullptr);
  HF_ASSERT(length > 0);
  Bytes der(static_cast<size_t>(length));
  unsigned char* at = u8(der.data());
  HF_ASSERT(i2d_PUBKEY(key.get(), &at) == length);
  Result<SpkiKey> half = SpkiKey::from_der(der);
  HF_ASSERT(half.ok());
  return KeyPair(std::move(key), std::move(half).value());
}

KeyPair KeyPair::generate_rsa(int bits) {
  return with_public(
      EvpHandle(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<size_t>(bits))));
}

KeyPair KeyPair::generate_ec(KeyKind curve) {
  HF_ASSERT(curve != KeyKind::kRsa);
  const char* name = curve == KeyKind::kEcP256 ? "P-256" : "P-384";
  return with_public(EvpHandle(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", name)));
}

Result<KeyPair> KeyPair::from_pkcs8(ByteSpan der) {
  const unsigned char* at = u8(der.data());
  const auto length = static_cast<long>(std::min<size_t>(der.size(), LONG_MAX));
  PKCS8_PRIV_KEY_INFO* info = d2i_PKCS8_PRIV_KEY_INFO(nullptr, &at, length);
  if (info == nullptr || at != u8(der.data()) + der.size()) {
    PKCS8_PRIV_KEY_INFO_free(info);
    return bad_key(ErrorCode::kCorrupt, "not a private key (PKCS #8)");
  }
  EvpHandle key(EVP_PKCS82PKEY(info));
  PKCS8_PRIV_KEY_INFO_free(info);  // cleanses its octets
  if (key == nullptr) return bad_key(ErrorCode::kCorrupt, "not a private key (PKCS #8)");
  TRY(kind_of(key.get()));
  return with_public(std::move(key));
}

Secret KeyPair::to_pkcs8() const {
  PKCS8_PRIV_KEY_INFO* info = EVP_PKEY2PKCS8(key_.get());
  HF_ASSERT(info != nullptr);
  const int length = i2d_PKCS8_PRIV_KEY_INFO(info, nullptr);
  HF_ASSERT(length > 0);
  Secret out(static_cast<size_t>(length));
  unsigned char* at = u8(out.mutable_span().data());
  HF_ASSERT(i2d_PKCS8_PRIV_KEY_INFO(info, &at) == length);
  PKCS8_PRIV_KEY_INFO_free(info);
  return out;
}

Result<Bytes> rsa_oaep_seal(const RsaPublicKey& key, ByteSpan label, ByteSpan plaintext) {
  ContextHandle context = TRY(oaep_context(key.handle(), label, EVP_PKEY_encrypt_init));
  size_t length = 0;
  if (EVP_PKEY_encrypt(context.get(), nullptr, &length, u8(plaintext.data()), plaintext.size()) !=
      1) {
    return bad_key(ErrorCode::kInvalidArgument, "RSA-OAEP cannot seal with this key");
  }
  Bytes out(length);
  if (EVP_PKEY_encrypt(context.get(), u8(out.data()), &length, u8(plaintext.data()),
                       plaintext.size()) != 1) {
    return bad_key(ErrorCode::kInvalidArgument, "plaintext too long for RSA-OAEP with this key");
  }
  out.resize(length);
  return out;
}

Result<Secret> rsa_oaep_open(const KeyPair& key, ByteSpan label, ByteSpan ciphertext) {
  ContextHandle context = TRY(oaep_context(key.handle(), label, EVP_PKEY_decrypt_init));
  const auto modulus = static_cast<size_t>(EVP_PKEY_get_size(key.handle()));
  Secret whole(modulus);  // OpenSSL asks for room for the longest plaintext
  size_t length = modulus;
  if (ciphertext.size() != modulus ||
      EVP_PKEY_decrypt(context.get(), u8(whole.mutable_span().data()), &length,
                       u8(ciphertext.data()), ciphertext.size()) != 1) {
    return bad_key(ErrorCode::kWrongKey, "the wrapped key does not open with this private key");
  }
  return Secret::copy_of(whole.span().first(length));
}

}  // namespace hf::crypto
