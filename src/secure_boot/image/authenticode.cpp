#include "secure_boot/image/authenticode.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pkcs7.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "crypto/memory_bio.h"

namespace hf::secure_boot {
namespace {

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    free(pointer);
  }
};
using X509Pointer = std::unique_ptr<X509, Free<X509_free>>;
using Pkcs7Pointer = std::unique_ptr<PKCS7, Free<PKCS7_free>>;
using StorePointer = std::unique_ptr<X509_STORE, Free<X509_STORE_free>>;
struct FreeStack {  // the certificates in it are borrowed
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using SignerStack = std::unique_ptr<STACK_OF(X509), FreeStack>;

// What OpenSSL noted on the way is of no use to anybody later in this thread.
struct ErrorQueue {
  ~ErrorQueue() { ERR_clear_error(); }
};

constexpr char kSpcIndirectData[] = "1.3.6.1.4.1.311.2.1.4";
constexpr char kModuleSigning[] = "1.3.6.1.4.1.2312.16.1.2";

Error refused(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = "signature: " + std::move(cause)};
}

const unsigned char* chars(ByteSpan bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

std::optional<DigestAlgorithm> algorithm_of(const ASN1_OBJECT* object) {
  switch (OBJ_obj2nid(object)) {
    case NID_sha1:
      return DigestAlgorithm::kSha1;
    case NID_sha256:
      return DigestAlgorithm::kSha256;
    case NID_sha384:
      return DigestAlgorithm::kSha384;
    case NID_sha512:
      return DigestAlgorithm::kSha512;
    default:
      return std::nullopt;
  }
}

bool is_object(const ASN1_OBJECT* object, const char* dotted) {
  char text[64] = {};
  return OBJ_obj2txt(text, sizeof text, object, 1) > 0 && std::string_view(text) == dotted;
}

// One DER element at the front of `bytes`, taken off it: its content, if it has the tag and fits.
std::optional<ByteSpan> take(ByteSpan& bytes, int expected_tag) {
  const unsigned char* at = chars(bytes);
  long length = 0;
  int tag = 0;
  int tag_class = 0;
  const int flags =
      ASN1_get_object(&at, &length, &tag, &tag_class, static_cast<long>(bytes.size()));
  if ((flags & 0x81) != 0 || tag != expected_tag || tag_class != V_ASN1_UNIVERSAL) {
    return std::nullopt;
  }
  const size_t header = static_cast<size_t>(at - chars(bytes));
  HF_ASSERT(length >= 0 && header + static_cast<size_t>(length) <= bytes.size());
  const ByteSpan content = bytes.subspan(header, static_cast<size_t>(length));
  bytes = bytes.subspan(header + static_cast<size_t>(length));
  return content;
}

X509Pointer parse_certificate(ByteSpan der) {
  if (der.size() > kSignatureBytesMax) return nullptr;
  const unsigned char* at = chars(der);
  return X509Pointer(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
}

Bytes to_der(const X509* certificate) {
  const int size = i2d_X509(certificate, nullptr);
  if (size <= 0) return {};
  Bytes der(static_cast<size_t>(size));
  auto* at = reinterpret_cast<unsigned char*>(der.data());
  i2d_X509(certificate, &at);
  return der;
}

}  // namespace

struct AuthenticodeSignature::Impl {
  Pkcs7Pointer pkcs7;
  Bytes content;  // SpcIndirectDataContent without its outer header: what the signature covers
  DigestAlgorithm algorithm = DigestAlgorithm::kSha256;
  Bytes digest;
  std::vector<Bytes> signers;
  std::vector<Bytes> certificates;

  Status read_structure();
  Status read_digest(ByteSpan spc);
  Status read_certificates();
};

// SpcIndirectDataContent ::= SEQUENCE { data SEQUENCE …, messageDigest DigestInfo }
// DigestInfo ::= SEQUENCE { SEQUENCE { OBJECT IDENTIFIER, … }, OCTET STRING }
Status AuthenticodeSignature::Impl::read_digest(ByteSpan spc) {
  const auto outer = take(spc, V_ASN1_SEQUENCE);
  if (!outer) return refused("its content is not DER");
  content.assign(outer->begin(), outer->end());
  ByteSpan rest = *outer;
  if (!take(rest, V_ASN1_SEQUENCE)) return refused("its content has no data type");
  const auto info = take(rest, V_ASN1_SEQUENCE);
  if (!info || !rest.empty()) return refused("its content has no digest");
  rest = *info;
  auto identifier = take(rest, V_ASN1_SEQUENCE);
  const auto value = take(rest, V_ASN1_OCTET_STRING);
  if (!identifier || !value || !rest.empty()) return refused("its digest is not one");
  const unsigned char* at = chars(*identifier);
  std::unique_ptr<ASN1_OBJECT, Free<ASN1_OBJECT_free>> object(
      d2i_ASN1_OBJECT(nullptr, &at, static_cast<long>(identifier->size())));
  if (object == nullptr || algorithm_of(object.get()) != algorithm) {
    return refused("it names two digest algorithms, or one that firmware does not know");
  }
  if (value->size() != size_of(algorithm)) return refused("its digest has a wrong length");
  digest.assign(value->begin(), value->end());
  return {};
}

Status AuthenticodeSignature::Impl::read_certificates() {
  const STACK_OF(X509)* all = pkcs7->d.sign->cert;
  if (sk_X509_num(all) > kSignatureCertificatesMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "signature: more than 64 certificates"};
  }
  for (int i = 0; i < sk_X509_num(all); ++i) certificates.push_back(to_der(sk_X509_value(all, i)));
  const int count = sk_PKCS7_SIGNER_INFO_num(PKCS7_get_signer_info(pkcs7.get()));
  if (count < 1 || count > kSignersMax) return refused("it has no signer, or too many");
  SignerStack stack(PKCS7_get0_signers(pkcs7.get(), nullptr, PKCS7_BINARY));
  if (stack == nullptr) return refused("the certificate of its signer is missing");
  for (int i = 0; i < sk_X509_num(stack.get()); ++i) {
    signers.push_back(to_der(sk_X509_value(stack.get(), i)));
  }
  return {};
}

Status AuthenticodeSignature::Impl::read_structure() {
  if (!PKCS7_type_is_signed(pkcs7.get()) || pkcs7->d.sign == nullptr ||
      pkcs7->d.sign->contents == nullptr) {
    return refused("not PKCS#7 signed data");
  }
  const STACK_OF(X509_ALGOR)* algorithms = pkcs7->d.sign->md_algs;
  if (sk_X509_ALGOR_num(algorithms) < 1) return refused("it names no digest algorithm");
  const auto named = algorithm_of(sk_X509_ALGOR_value(algorithms, 0)->algorithm);
  if (!named) return refused("its digest algorithm is none that firmware knows");
  algorithm = *named;
  // One is the rule. (OpenSSL 3.0's PKCS7_verify leaks memory for those it does not know.)
  for (int i = 1; i < sk_X509_ALGOR_num(algorithms); ++i) {
    if (!algorithm_of(sk_X509_ALGOR_value(algorithms, i)->algorithm)) {
      return refused("it lists a digest algorithm that firmware does not know");
    }
  }
  const PKCS7* contents = pkcs7->d.sign->contents;
  if (!is_object(contents->type, kSpcIndirectData)) return refused("it does not sign an image");
  const ASN1_TYPE* other = contents->d.other;
  if (other == nullptr || other->type != V_ASN1_SEQUENCE) return refused("it has no content");
  const ASN1_STRING* sequence = other->value.asn1_string;
  TRY(read_digest(std::as_bytes(std::span(ASN1_STRING_get0_data(sequence),
                                          static_cast<size_t>(ASN1_STRING_length(sequence))))));
  return read_certificates();
}

AuthenticodeSignature::AuthenticodeSignature(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AuthenticodeSignature::~AuthenticodeSignature() = default;
AuthenticodeSignature::AuthenticodeSignature(AuthenticodeSignature&&) noexcept = default;
AuthenticodeSignature& AuthenticodeSignature::operator=(AuthenticodeSignature&&) noexcept = default;

Result<AuthenticodeSignature> AuthenticodeSignature::parse(ByteSpan pkcs7) {
  ErrorQueue errors;
  if (pkcs7.size() > kSignatureBytesMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "signature: more than 256 KiB"};
  }
  // Firmware reads lengths of two bytes only.
  if (pkcs7.size() < 2 || load_le<uint8_t>(pkcs7.data() + 1) != 0x82) {
    return refused("not DER as firmware reads it");
  }
  auto impl = std::make_unique<Impl>();
  const unsigned char* at = chars(pkcs7);
  impl->pkcs7.reset(d2i_PKCS7(nullptr, &at, static_cast<long>(pkcs7.size())));
  if (impl->pkcs7 == nullptr) return refused("not PKCS#7");
  TRY(impl->read_structure());
  return AuthenticodeSignature(std::move(impl));
}

DigestAlgorithm AuthenticodeSignature::algorithm() const { return impl_->algorithm; }
ByteSpan AuthenticodeSignature::image_digest() const { return impl_->digest; }
const std::vector<Bytes>& AuthenticodeSignature::signers() const { return impl_->signers; }
const std::vector<Bytes>& AuthenticodeSignature::certificates() const {
  return impl_->certificates;
}

bool AuthenticodeSignature::chains_to(ByteSpan trusted) const {
  ErrorQueue errors;
  const X509Pointer anchor = parse_certificate(trusted);
  StorePointer store(X509_STORE_new());
  const crypto::BioHandle content = crypto::reader_of(impl_->content);
  HF_ASSERT(store != nullptr);
  if (anchor == nullptr || X509_STORE_add_cert(store.get(), anchor.get()) != 1) return false;
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME);
  X509_STORE_set_purpose(store.get(), X509_PURPOSE_ANY);
  return PKCS7_verify(impl_->pkcs7.get(), nullptr, store.get(), content.get(), nullptr,
                      PKCS7_BINARY) == 1;
}

std::optional<Bytes> tbs_digest(DigestAlgorithm algorithm, ByteSpan der) {
  ErrorQueue errors;
  const X509Pointer certificate = parse_certificate(der);
  if (certificate == nullptr) return std::nullopt;
  // Of the bytes as they stand: the first element of the certificate's sequence, with its header.
  ByteSpan rest = der;
  const auto body = take(rest, V_ASN1_SEQUENCE);
  if (!body) return std::nullopt;
  rest = *body;
  if (!take(rest, V_ASN1_SEQUENCE)) return std::nullopt;
  return digest_of(algorithm, body->first(body->size() - rest.size()));
}

bool is_module_signing_only(ByteSpan der) {
  ErrorQueue errors;
  const X509Pointer certificate = parse_certificate(der);
  if (certificate == nullptr) return false;
  auto* usage = static_cast<EXTENDED_KEY_USAGE*>(
      X509_get_ext_d2i(certificate.get(), NID_ext_key_usage, nullptr, nullptr));
  if (usage == nullptr) return false;
  bool found = false;
  for (int i = 0; i < sk_ASN1_OBJECT_num(usage); ++i) {
    found = found || is_object(sk_ASN1_OBJECT_value(usage, i), kModuleSigning);
  }
  EXTENDED_KEY_USAGE_free(usage);
  return found;
}

}  // namespace hf::secure_boot
