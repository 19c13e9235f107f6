#include "crypto/x509.h"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <climits>

#include "crypto/crypto.h"
#include "crypto/memory_bio.h"

namespace hf::crypto {
namespace {

const unsigned char* u8(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* u8(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

template <typename T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
void free_names(GENERAL_NAMES* names) { GENERAL_NAMES_free(names); }
void free_name(X509_NAME* name) { X509_NAME_free(name); }
void free_request(X509_REQ* request) { X509_REQ_free(request); }
using NamesHandle = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES, free_names>>;
using NameHandle = std::unique_ptr<X509_NAME, Freer<X509_NAME, free_name>>;
using RequestHandle = std::unique_ptr<X509_REQ, Freer<X509_REQ, free_request>>;

Error bad(ErrorCode code, std::string cause) {
  ERR_clear_error();
  return Error{.code = code, .cause = std::move(cause)};
}

// Encrypted PEM is refused, never asked about on a terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

// 127 random bits: positive, never zero, and unguessable (CA/Browser Forum BR 7.1 asks for 64).
void set_serial(X509* certificate) {
  std::array<std::byte, 16> random{};
  SystemRng().fill(random);
  random[0] = (random[0] & std::byte{0x7f}) | std::byte{0x40};
  BIGNUM* number = BN_bin2bn(u8(random.data()), static_cast<int>(random.size()), nullptr);
  HF_ASSERT(number != nullptr &&
            BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nullptr);
  BN_free(number);
}

time_t seconds(Micros time) { return static_cast<time_t>(time.value / 1'000'000); }

void set_time(ASN1_TIME* field, time_t at) { HF_ASSERT(ASN1_TIME_set(field, at) != nullptr); }

// RFC 5280, 4.1.2.5: no well-defined expiration date.
void set_without_end(X509* certificate) {
  HF_ASSERT(ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "99991231235959Z") == 1);
}

void add_extension(X509* certificate, const X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  // The older API wants mutable pointers; it does not write through them.
  X509V3_set_ctx(&context, const_cast<X509*>(issuer), certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  HF_ASSERT(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

NameHandle name_with_cn(const std::string& common_name) {
  NameHandle name(X509_NAME_new());
  HF_ASSERT(name != nullptr);
  HF_ASSERT(X509_NAME_add_entry_by_NID(name.get(), NID_commonName, MBSTRING_UTF8,
                                       reinterpret_cast<const unsigned char*>(common_name.data()),
                                       static_cast<int>(common_name.size()), -1, 0) == 1);
  return name;
}

// A certificate with everything but its extensions and signature. Clocks of two sites differ a
// little: validity begins an hour early.
X509Handle blank(const SpkiKey& subject_key, const X509_NAME* subject, const X509_NAME* issuer,
                 time_t now) {
  X509Handle certificate(X509_new());
  HF_ASSERT(certificate != nullptr);
  HF_ASSERT(X509_set_version(certificate.get(), X509_VERSION_3) == 1);
  set_serial(certificate.get());
  set_time(X509_getm_notBefore(certificate.get()), now - 3600);
  HF_ASSERT(X509_set_subject_name(certificate.get(), subject) == 1);
  HF_ASSERT(X509_set_issuer_name(certificate.get(), issuer) == 1);
  HF_ASSERT(X509_set_pubkey(certificate.get(), subject_key.handle()) == 1);
  return certificate;
}

void sign(X509* certificate, const KeyPair& key) {
  HF_ASSERT(X509_sign(certificate, key.handle(), EVP_sha256()) > 0);
}

void add_alternative_name(GENERAL_NAMES* names, int type, ASN1_STRING* value) {
  GENERAL_NAME* name = GENERAL_NAME_new();
  HF_ASSERT(name != nullptr && value != nullptr);
  GENERAL_NAME_set0_value(name, type, value);
  HF_ASSERT(sk_GENERAL_NAME_push(names, name) > 0);
}

ASN1_STRING* string_of(int type, ByteSpan bytes) {
  ASN1_STRING* text = ASN1_STRING_type_new(type);
  HF_ASSERT(text != nullptr &&
            ASN1_STRING_set(text, bytes.data(), static_cast<int>(bytes.size())) == 1);
  return text;
}

bool is_dns_name(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  for (const char c : name) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '.' || c == '_';
    if (!good) return false;
  }
  return true;
}

bool is_plain_text(std::string_view text, size_t longest) {
  if (text.empty() || text.size() > longest) return false;
  for (const char c : text) {
    if (c < 0x20 || c > 0x7e) return false;
  }
  return true;
}

Result<Bytes> address_bytes(const std::string& text) {
  Bytes out(16);
  if (inet_pton(AF_INET, text.c_str(), out.data()) == 1) {
    out.resize(4);
    return out;
  }
  if (inet_pton(AF_INET6, text.c_str(), out.data()) == 1) return out;
  return bad(ErrorCode::kInvalidArgument, "\"" + text.substr(0, 64) + "\" is not an IP address");
}

Result<NamesHandle> alternative_names(const LeafOptions& options) {
  NamesHandle names(GENERAL_NAMES_new());
  HF_ASSERT(names != nullptr);
  for (const std::string& dns : options.dns_names) {
    if (!is_dns_name(dns)) {
      return bad(ErrorCode::kInvalidArgument, "\"" + dns.substr(0, 64) + "\" is not a DNS name");
    }
    add_alternative_name(names.get(), GEN_DNS, string_of(V_ASN1_IA5STRING, as_bytes(dns)));
  }
  for (const std::string& ip : options.ip_addresses) {
    const Bytes raw = TRY(address_bytes(ip));
    add_alternative_name(names.get(), GEN_IPADD, string_of(V_ASN1_OCTET_STRING, raw));
  }
  for (const std::string& uri : options.uris) {
    HF_ASSERT(is_plain_text(uri, 256));  // ours, not a caller's
    add_alternative_name(names.get(), GEN_URI, string_of(V_ASN1_IA5STRING, as_bytes(uri)));
  }
  return names;
}

// TCG EK Credential Profile 3.2.9: the TPM's maker, model and version as a directoryName.
GENERAL_NAMES* tpm_names(const EkOptions& options) {
  const struct {
    const char* oid;
    const std::string& value;
  } parts[] = {{"2.23.133.2.1", options.manufacturer},
               {"2.23.133.2.2", options.model},
               {"2.23.133.2.3", options.firmware_version}};
  X509_NAME* name = X509_NAME_new();
  HF_ASSERT(name != nullptr);
  for (const auto& part : parts) {
    ASN1_OBJECT* oid = OBJ_txt2obj(part.oid, 1);
    HF_ASSERT(oid != nullptr);
    HF_ASSERT(X509_NAME_add_entry_by_OBJ(name, oid, V_ASN1_UTF8STRING,
                                         reinterpret_cast<const unsigned char*>(part.value.data()),
                                         static_cast<int>(part.value.size()), -1, 0) == 1);
    ASN1_OBJECT_free(oid);
  }
  GENERAL_NAMES* names = GENERAL_NAMES_new();
  GENERAL_NAME* entry = GENERAL_NAME_new();
  HF_ASSERT(names != nullptr && entry != nullptr);
  GENERAL_NAME_set0_value(entry, GEN_DIRNAME, name);
  HF_ASSERT(sk_GENERAL_NAME_push(names, entry) > 0);
  return names;
}

// SubjectDirectoryAttributes ::= SEQUENCE OF Attribute; one attribute, tPMSpecification
// (2.23.133.2.16) = SET { SEQUENCE { family UTF8String "2.0", level INTEGER 0, revision INTEGER }
// }. Small enough for single-byte lengths, so it is written out.
Bytes tpm_specification(int revision) {
  HF_ASSERT(revision >= 128 && revision <= 255);
  const uint8_t der[] = {0x30, 0x19, 0x30, 0x17,  // SEQUENCE OF, Attribute
                         0x06, 0x05, 0x67, 0x81,
                         0x05, 0x02, 0x10,        // OID 2.23.133.2.16
                         0x31, 0x0e, 0x30, 0x0c,  // SET, TPMSpecification
                         0x0c, 0x03, '2',  '.',
                         '0',               // family
                         0x02, 0x01, 0x00,  // level
                         0x02, 0x02, 0x00, static_cast<uint8_t>(revision)};
  static_assert(sizeof der == 2 + 0x19 && 0x17 + 2 == 0x19 && 7 + 2 + 0x0e == 0x17);
  const auto bytes = std::as_bytes(std::span(der));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

void X509Free::operator()(x509_st* certificate) const { X509_free(certificate); }

Certificate Certificate::adopt(X509Handle certificate) {
  HF_ASSERT(certificate != nullptr);
  return Certificate(std::move(certificate));
}

Result<Certificate> Certificate::from_pem(std::string_view pem) {
  BioHandle bio = reader_of(as_bytes(pem));
  X509Handle certificate(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
  if (certificate == nullptr) return bad(ErrorCode::kCorrupt, "not a certificate in PEM");
  X509Handle second(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (second != nullptr) return bad(ErrorCode::kCorrupt, "more than one certificate");
  return Certificate(std::move(certificate));
}

Result<Certificate> Certificate::from_der(ByteSpan der) {
  const unsigned char* at = u8(der.data());
  X509Handle certificate(
      d2i_X509(nullptr, &at, static_cast<long>(std::min<size_t>(der.size(), LONG_MAX))));
  if (certificate == nullptr || at != u8(der.data()) + der.size()) {
    return bad(ErrorCode::kCorrupt, "not a certificate in DER");
  }
  return Certificate(std::move(certificate));
}

std::string Certificate::to_pem() const {
  BioHandle bio(BIO_new(BIO_s_mem()));
  HF_ASSERT(bio != nullptr && PEM_write_bio_X509(bio.get(), certificate_.get()) == 1);
  char* text = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(length)};
}

Bytes Certificate::to_der() const {
  const int length = i2d_X509(certificate_.get(), nullptr);
  HF_ASSERT(length > 0);
  Bytes out(static_cast<size_t>(length));
  unsigned char* at = u8(out.data());
  HF_ASSERT(i2d_X509(certificate_.get(), &at) == length);
  return out;
}

Digest Certificate::fingerprint() const { return sha256(to_der()); }

std::string Certificate::common_name() const {
  const X509_NAME* subject = X509_get_subject_name(certificate_.get());
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return {};
  unsigned char* utf8 = nullptr;
  const int length =
      ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
  if (length < 0) return {};
  std::string name(reinterpret_cast<char*>(utf8), static_cast<size_t>(length));
  OPENSSL_free(utf8);
  return name;
}

std::vector<std::string> Certificate::uris() const {
  std::vector<std::string> out;
  NamesHandle names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate_.get(), NID_subject_alt_name, nullptr, nullptr)));
  const int count = names ? sk_GENERAL_NAME_num(names.get()) : 0;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_STRING* uri = name->d.uniformResourceIdentifier;
    out.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                     static_cast<size_t>(ASN1_STRING_length(uri)));
  }
  return out;
}

bool Certificate::valid_at(Micros time) const {
  time_t at = seconds(time);
  // 0: not a date.
  return X509_cmp_time(X509_get0_notBefore(certificate_.get()), &at) < 0 &&
         X509_cmp_time(X509_get0_notAfter(certificate_.get()), &at) > 0;
}

bool Certificate::is_ca() const { return X509_check_ca(certificate_.get()) == 1; }

bool Certificate::has_extended_key_usage(const char* oid) const {
  auto* usages = static_cast<EXTENDED_KEY_USAGE*>(
      X509_get_ext_d2i(certificate_.get(), NID_ext_key_usage, nullptr, nullptr));
  ERR_clear_error();
  if (usages == nullptr) return false;
  ASN1_OBJECT* wanted = OBJ_txt2obj(oid, 1);
  HF_ASSERT(wanted != nullptr);
  bool found = false;
  for (int i = 0; i < sk_ASN1_OBJECT_num(usages); ++i) {
    found = found || OBJ_cmp(sk_ASN1_OBJECT_value(usages, i), wanted) == 0;
  }
  ASN1_OBJECT_free(wanted);
  sk_ASN1_OBJECT_pop_free(usages, ASN1_OBJECT_free);
  return found;
}

bool Certificate::signed_by(const Certificate& issuer) const {
  EVP_PKEY* key = X509_get0_pubkey(issuer.handle());
  const bool good =
      key != nullptr &&
      X509_NAME_cmp(X509_get_issuer_name(handle()), X509_get_subject_name(issuer.handle())) == 0 &&
      X509_verify(handle(), key) == 1;
  ERR_clear_error();
  return good;
}

Result<SpkiKey> Certificate::public_key() const {
  EvpHandle key(X509_get_pubkey(certificate_.get()));
  if (key == nullptr) return bad(ErrorCode::kUnsupported, "a certificate with an unknown key");
  return SpkiKey::adopt(std::move(key));
}

Result<SpkiKey> subject_key_from_pem(std::string_view pem) {
  if (pem.find("CERTIFICATE REQUEST-----") != std::string_view::npos) {
    BioHandle bio = reader_of(as_bytes(pem));
    RequestHandle request(PEM_read_bio_X509_REQ(bio.get(), nullptr, no_passphrase, nullptr));
    EVP_PKEY* carried = request ? X509_REQ_get0_pubkey(request.get()) : nullptr;
    if (carried == nullptr) return bad(ErrorCode::kInvalidArgument, "not a certificate request");
    if (X509_REQ_verify(request.get(), carried) != 1) {
      return bad(ErrorCode::kInvalidArgument, "a certificate request not signed by its own key");
    }
    HF_ASSERT(EVP_PKEY_up_ref(carried) == 1);
    return SpkiKey::adopt(EvpHandle(carried));
  }
  Result<SpkiKey> key = SpkiKey::from_pem(pem);
  if (!key.ok() && key.error().code == ErrorCode::kCorrupt) {
    return bad(ErrorCode::kInvalidArgument, "neither a public key nor a certificate request");
  }
  return key;
}

Certificate make_ca(const KeyPair& key, const CaOptions& options) {
  HF_ASSERT(is_plain_text(options.common_name, 64));
  const NameHandle name = name_with_cn(options.common_name);
  X509Handle ca = blank(key.public_key(), name.get(), name.get(), seconds(options.now));
  set_time(X509_getm_notAfter(ca.get()), seconds(options.now) + time_t{86400} * options.valid_days);
  add_extension(ca.get(), ca.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add_extension(ca.get(), ca.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  add_extension(ca.get(), ca.get(), NID_subject_key_identifier, "hash");
  sign(ca.get(), key);
  return Certificate::adopt(std::move(ca));
}

Result<Certificate> issue_leaf(const Certificate& ca, const KeyPair& ca_key, const SpkiKey& subject,
                               const LeafOptions& options) {
  if (!is_plain_text(options.common_name, 64)) {
    return bad(ErrorCode::kInvalidArgument, "a common name must be 1 to 64 printable characters");
  }
  if (subject.kind() == KeyKind::kRsa && subject.bits() < 2048) {
    return bad(ErrorCode::kInvalidArgument, "an RSA key of less than 2048 bits");
  }
  const NamesHandle names = TRY(alternative_names(options));
  const NameHandle name = name_with_cn(options.common_name);
  X509Handle leaf =
      blank(subject, name.get(), X509_get_subject_name(ca.handle()), seconds(options.now));
  set_time(X509_getm_notAfter(leaf.get()),
           seconds(options.now) + time_t{86400} * options.valid_days);
  add_extension(leaf.get(), ca.handle(), NID_basic_constraints, "critical,CA:FALSE");
  add_extension(leaf.get(), ca.handle(), NID_key_usage, "critical,digitalSignature");
  add_extension(leaf.get(), ca.handle(), NID_ext_key_usage, "serverAuth,clientAuth");
  add_extension(leaf.get(), ca.handle(), NID_subject_key_identifier, "hash");
  add_extension(leaf.get(), ca.handle(), NID_authority_key_identifier, "keyid:always");
  if (sk_GENERAL_NAME_num(names.get()) > 0) {
    HF_ASSERT(X509_add1_ext_i2d(leaf.get(), NID_subject_alt_name, names.get(), 0,
                                X509V3_ADD_DEFAULT) == 1);
  }
  sign(leaf.get(), ca_key);
  return Certificate::adopt(std::move(leaf));
}

Result<Certificate> issue_ek(const Certificate& ca, const KeyPair& ca_key, const SpkiKey& ek,
                             const EkOptions& options) {
  // The subject stays empty, so the alternative name must be critical (RFC 5280, 4.2.1.6).
  const NameHandle empty(X509_NAME_new());
  X509Handle certificate =
      blank(ek, empty.get(), X509_get_subject_name(ca.handle()), seconds(options.now));
  set_without_end(certificate.get());
  add_extension(certificate.get(), ca.handle(), NID_basic_constraints, "critical,CA:FALSE");
  add_extension(certificate.get(), ca.handle(), NID_key_usage,
                ek.kind() == KeyKind::kRsa ? "critical,keyEncipherment" : "critical,keyAgreement");
  add_extension(certificate.get(), ca.handle(), NID_ext_key_usage, "2.23.133.8.1");
  add_extension(certificate.get(), ca.handle(), NID_authority_key_identifier, "keyid:always");
  const NamesHandle names(tpm_names(options));
  HF_ASSERT(X509_add1_ext_i2d(certificate.get(), NID_subject_alt_name, names.get(), 1,
                              X509V3_ADD_DEFAULT) == 1);
  ASN1_OCTET_STRING* value =
      string_of(V_ASN1_OCTET_STRING, tpm_specification(options.specification_revision));
  ASN1_OBJECT* oid = OBJ_nid2obj(NID_subject_directory_attributes);
  X509_EXTENSION* attributes = X509_EXTENSION_create_by_OBJ(nullptr, oid, 0, value);
  HF_ASSERT(attributes != nullptr && X509_add_ext(certificate.get(), attributes, -1) == 1);
  X509_EXTENSION_free(attributes);
  ASN1_STRING_free(value);
  sign(certificate.get(), ca_key);
  return Certificate::adopt(std::move(certificate));
}

Certificate issue_signer(const Certificate& ca, const KeyPair& ca_key, const SpkiKey& subject,
                         const SignerOptions& options) {
  HF_ASSERT(is_plain_text(options.common_name, 64));
  const NameHandle name = name_with_cn(options.common_name);
  X509Handle leaf =
      blank(subject, name.get(), X509_get_subject_name(ca.handle()), seconds(options.now));
  set_without_end(leaf.get());
  add_extension(leaf.get(), ca.handle(), NID_basic_constraints, "critical,CA:FALSE");
  add_extension(leaf.get(), ca.handle(), NID_key_usage, "critical,digitalSignature");
  if (options.extended_key_usage != nullptr) {
    add_extension(leaf.get(), ca.handle(), NID_ext_key_usage, options.extended_key_usage);
  }
  add_extension(leaf.get(), ca.handle(), NID_subject_key_identifier, "hash");
  add_extension(leaf.get(), ca.handle(), NID_authority_key_identifier, "keyid:always");
  const Result<NamesHandle> names = alternative_names({.uris = options.uris});
  HF_ASSERT(names.ok());
  HF_ASSERT(X509_add1_ext_i2d(leaf.get(), NID_subject_alt_name, names->get(), 0,
                              X509V3_ADD_DEFAULT) == 1);
  sign(leaf.get(), ca_key);
  return Certificate::adopt(std::move(leaf));
}

}  // namespace hf::crypto
