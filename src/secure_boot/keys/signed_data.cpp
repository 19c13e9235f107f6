#include "secure_boot/keys/signed_data.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <climits>

#include "crypto/memory_bio.h"
#include "crypto/x509.h"
#include "secure_boot/keys/certificate.h"

namespace hf::secure_boot {
namespace {

struct StoreFree {
  void operator()(X509_STORE* store) const { X509_STORE_free(store); }
};
struct StackFree {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
struct OpensslFree {
  void operator()(unsigned char* bytes) const { OPENSSL_free(bytes); }
};

const unsigned char* u8(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

Error refused(ErrorCode code, std::string cause) {
  ERR_clear_error();
  return Error{.code = code, .cause = std::move(cause)};
}

Bytes der_of(X509* certificate) {
  unsigned char* der = nullptr;
  const int length = i2d_X509(certificate, &der);
  if (length < 0) {
    ERR_clear_error();
    return {};
  }
  const std::unique_ptr<unsigned char, OpensslFree> owner(der);
  const auto* bytes = reinterpret_cast<const std::byte*>(der);
  return {bytes, bytes + length};
}

// A bare SignedData becomes a PKCS7 of that type.
PKCS7* read_message(ByteSpan der) {
  const unsigned char* at = u8(der.data());
  const auto size = static_cast<long>(der.size());
  PKCS7* message = d2i_PKCS7(nullptr, &at, size);
  if (message != nullptr) return message;
  ERR_clear_error();
  at = u8(der.data());
  PKCS7_SIGNED* bare = d2i_PKCS7_SIGNED(nullptr, &at, size);
  if (bare == nullptr) return nullptr;
  message = PKCS7_new();
  HF_ASSERT(message != nullptr);
  message->type = OBJ_nid2obj(NID_pkcs7_signed);
  message->d.sign = bare;
  return message;
}

std::string name_of(X509* certificate) {
  auto facts = read_certificate(der_of(certificate));
  return facts.ok() ? words(*facts) : "(unreadable)";
}

int no_passphrase(char*, int, int, void*) { return -1; }

}  // namespace

void SignedData::Free::operator()(pkcs7_st* message) const { PKCS7_free(message); }

Result<SignedData> SignedData::parse(ByteSpan der) {
  if (der.empty() || der.size() > INT_MAX) return refused(ErrorCode::kCorrupt, "no PKCS #7 in it");
  SignedData data{std::unique_ptr<pkcs7_st, Free>(read_message(der))};
  const PKCS7* message = data.message_.get();
  if (message == nullptr || PKCS7_type_is_signed(message) == 0 || message->d.sign == nullptr) {
    return refused(ErrorCode::kCorrupt, "its signature is no PKCS #7 SignedData");
  }
  const STACK_OF(PKCS7_SIGNER_INFO)* signers = message->d.sign->signer_info;
  if (signers == nullptr || sk_PKCS7_SIGNER_INFO_num(signers) < 1) {
    return refused(ErrorCode::kUnsupported, "nobody signed it");
  }
  // The firmware looks at this list too. (OpenSSL 3.0's PKCS7_verify leaks memory for unknown
  // ones.)
  const STACK_OF(X509_ALGOR)* digests = message->d.sign->md_algs;
  const int digest_count = digests == nullptr ? 0 : sk_X509_ALGOR_num(digests);
  for (int i = 0; i < digest_count; ++i) {
    if (OBJ_obj2nid(sk_X509_ALGOR_value(digests, i)->algorithm) != NID_sha256) {
      return refused(ErrorCode::kUnsupported, "it lists another digest than SHA-256");
    }
  }
  for (int i = 0; i < sk_PKCS7_SIGNER_INFO_num(signers); ++i) {
    const PKCS7_SIGNER_INFO* signer = sk_PKCS7_SIGNER_INFO_value(signers, i);
    if (OBJ_obj2nid(signer->digest_alg->algorithm) != NID_sha256) {
      return refused(ErrorCode::kUnsupported,
                     "signed with another digest than SHA-256, which the firmware refuses");
    }
  }
  return data;
}

std::vector<Bytes> SignedData::certificates() const {
  std::vector<Bytes> out;
  const STACK_OF(X509)* inside = message_->d.sign->cert;
  for (int i = 0; inside != nullptr && i < sk_X509_num(inside); ++i) {
    out.push_back(der_of(sk_X509_value(inside, i)));
  }
  return out;
}

bool SignedData::carries(ByteSpan certificate) const {
  return std::ranges::any_of(
      certificates(), [&](const Bytes& inside) { return std::ranges::equal(inside, certificate); });
}

std::string SignedData::signers_in_words() const {
  const std::unique_ptr<STACK_OF(X509), StackFree> signers(
      PKCS7_get0_signers(message_.get(), nullptr, 0));
  ERR_clear_error();
  std::string text;
  for (int i = 0; signers != nullptr && i < sk_X509_num(signers.get()); ++i) {
    if (!text.empty()) text += "\", \"";
    text += name_of(sk_X509_value(signers.get(), i));
  }
  return text.empty() ? "somebody whose certificate is not in it" : text;
}

Result<std::string> SignedData::verify_detached(ByteSpan content, ByteSpan trusted) const {
  const auto anchor = crypto::Certificate::from_der(trusted);
  if (!anchor.ok()) return refused(ErrorCode::kWrongKey, "an unreadable certificate vouches");
  const std::unique_ptr<X509_STORE, StoreFree> store(X509_STORE_new());
  HF_ASSERT(store != nullptr && X509_STORE_add_cert(store.get(), anchor->handle()) == 1);
  HF_ASSERT(X509_STORE_set_flags(store.get(),
                                 X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME) == 1);
  HF_ASSERT(X509_STORE_set_purpose(store.get(), X509_PURPOSE_ANY) == 1);
  const crypto::BioHandle reader = crypto::reader_of(content);
  if (PKCS7_verify(message_.get(), nullptr, store.get(), reader.get(), nullptr, PKCS7_BINARY) !=
      1) {
    return refused(ErrorCode::kWrongKey, "its signature does not chain to this certificate");
  }
  return signers_in_words();
}

Result<Bytes> sign_detached(ByteSpan content, const crypto::KeyPair& key, ByteSpan certificate) {
  const crypto::Certificate own = TRY(crypto::Certificate::from_der(certificate));
  if (X509_check_private_key(own.handle(), key.handle()) != 1) {
    return refused(ErrorCode::kInvalidArgument, "the certificate is not of the signing key");
  }
  const crypto::BioHandle reader = crypto::reader_of(content);
  constexpr int kFlags = PKCS7_BINARY | PKCS7_DETACHED | PKCS7_NOATTR | PKCS7_PARTIAL;
  PKCS7* message = PKCS7_sign(nullptr, nullptr, nullptr, reader.get(), kFlags);
  HF_ASSERT(message != nullptr);
  HF_ASSERT(PKCS7_sign_add_signer(message, own.handle(), key.handle(), EVP_sha256(), kFlags) !=
            nullptr);
  HF_ASSERT(PKCS7_final(message, reader.get(), kFlags) == 1);
  unsigned char* der = nullptr;
  const int length = i2d_PKCS7_SIGNED(message->d.sign, &der);
  HF_ASSERT(length > 0);
  const std::unique_ptr<unsigned char, OpensslFree> owner(der);
  PKCS7_free(message);
  const auto* bytes = reinterpret_cast<const std::byte*>(der);
  return Bytes(bytes, bytes + length);
}

Result<crypto::KeyPair> private_key_in(ByteSpan file) {
  if (file.empty()) {
    Error error = refused(ErrorCode::kInvalidArgument, "it is empty");
    error.mend = "give an unencrypted private key in PEM or PKCS #8, as openssl pkey writes it";
    return error;
  }
  if (file.size() > kCertificateFileBytesMax) {
    return refused(ErrorCode::kLimit, "too many bytes for a private key");
  }
  if (auto der = crypto::KeyPair::from_pkcs8(file); der.ok()) return der;
  const crypto::BioHandle reader = crypto::reader_of(file);
  const crypto::EvpHandle key(
      PEM_read_bio_PrivateKey(reader.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) {
    Error error = refused(ErrorCode::kInvalidArgument,
                          "no unencrypted private key, neither in PEM nor in PKCS #8");
    error.mend = "openssl pkey -in FILE -out PLAIN.pem";
    return error;
  }
  unsigned char* der = nullptr;
  PKCS8_PRIV_KEY_INFO* info = EVP_PKEY2PKCS8(key.get());
  const int length = info == nullptr ? -1 : i2d_PKCS8_PRIV_KEY_INFO(info, &der);
  PKCS8_PRIV_KEY_INFO_free(info);
  if (length <= 0) return refused(ErrorCode::kInvalidArgument, "a private key of unknown kind");
  auto pair = crypto::KeyPair::from_pkcs8(
      ByteSpan(reinterpret_cast<const std::byte*>(der), static_cast<size_t>(length)));
  OPENSSL_clear_free(der, static_cast<size_t>(length));
  return pair;
}

}  // namespace hf::secure_boot
