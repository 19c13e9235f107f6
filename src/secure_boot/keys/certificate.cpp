#include "secure_boot/keys/certificate.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "crypto/crypto.h"
#include "crypto/memory_bio.h"
#include "crypto/x509.h"

namespace hf::secure_boot {
namespace {

using crypto::BioHandle;

// Control characters and quotes come out escaped: what is printed cannot forge a line.
std::string name_text(const X509_NAME* name) {
  BioHandle bio(BIO_new(BIO_s_mem()));
  HF_ASSERT(bio != nullptr);
  if (X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
    ERR_clear_error();
    return "(unreadable name)";
  }
  char* text = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(std::max(length, 0L))};
}

std::string common_name_of(const X509_NAME* name) {
  const int index = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (index < 0) return {};
  BioHandle bio(BIO_new(BIO_s_mem()));
  HF_ASSERT(bio != nullptr);
  const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index));
  if (ASN1_STRING_print_ex(bio.get(), value, ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_UTF8_CONVERT) <
      0) {
    ERR_clear_error();
    return {};
  }
  char* text = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(std::max(length, 0L))};
}

std::string time_text(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    ERR_clear_error();
    return "(unreadable time)";
  }
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string serial_text(const X509* certificate) {
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  if (number == nullptr) {
    ERR_clear_error();
    return {};
  }
  char* hex = BN_bn2hex(number);
  std::string text = hex == nullptr ? "" : hex;
  OPENSSL_free(hex);
  BN_free(number);
  return text;
}

void describe_key(const X509* certificate, CertificateFacts& facts) {
  facts.key = "other";
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (key == nullptr) {
    ERR_clear_error();
    return;
  }
  facts.rsa = EVP_PKEY_is_a(key, "RSA") == 1;
  if (facts.rsa) {
    facts.key = fmt::format("RSA {}", EVP_PKEY_get_bits(key));
  } else if (EVP_PKEY_is_a(key, "EC") == 1) {
    facts.key = fmt::format("EC {}", EVP_PKEY_get_bits(key));
  }
}

int no_passphrase(char*, int, int, void*) { return -1; }

Error unreadable(std::string cause) {
  ERR_clear_error();
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = std::move(cause),
               .mend = "openssl x509 -in FILE -noout -subject"};
}

constexpr int kAnyClass = -1;

// One DER element off the front of `rest`, definite and whole.
struct Element {
  int tag = 0;
  int tag_class = 0;
  ByteSpan whole;
  ByteSpan content;
};
Result<Element> next_element(ByteSpan& rest, int tag, int tag_class = V_ASN1_UNIVERSAL) {
  const auto* begin = reinterpret_cast<const unsigned char*>(rest.data());
  const unsigned char* at = begin;
  long length = 0;
  Element element;
  const int found = rest.empty() ? 0x80
                                 : ASN1_get_object(&at, &length, &element.tag, &element.tag_class,
                                                   static_cast<long>(rest.size()));
  const bool wanted =
      tag_class == kAnyClass || (element.tag == tag && element.tag_class == tag_class);
  if ((found & 0x81) != 0 || !wanted) {  // 0x80: not well-formed; 1: of indefinite length
    ERR_clear_error();
    return Error{.code = ErrorCode::kCorrupt, .cause = "not a certificate"};
  }
  const auto header = static_cast<size_t>(at - begin);
  element.whole = rest.first(header + static_cast<size_t>(length));
  element.content = element.whole.subspan(header);
  rest = rest.subspan(element.whole.size());
  return element;
}

struct NameFree {
  void operator()(X509_NAME* name) const { X509_NAME_free(name); }
};
using NameHandle = std::unique_ptr<X509_NAME, NameFree>;

// Null for what is not one.
NameHandle read_name(ByteSpan der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  NameHandle name(d2i_X509_NAME(nullptr, &at, static_cast<long>(der.size())));
  if (name == nullptr) ERR_clear_error();
  return name;
}

// What OpenSSL prints as it is: text of one byte a character, and nothing in it to escape.
bool plain_text(const Element& element) {
  const bool narrow = element.tag_class == V_ASN1_UNIVERSAL &&
                      (element.tag == V_ASN1_UTF8STRING || element.tag == V_ASN1_PRINTABLESTRING ||
                       element.tag == V_ASN1_IA5STRING);
  return narrow && std::ranges::all_of(as_text(element.content),
                                       [](char c) { return c >= ' ' && c <= '~' && c != '\\'; });
}

// The first common name of a name made of nothing but plain texts, as nearly all are: OpenSSL's
// own reading of names costs more than the rest of a certificate's outline.
Result<std::string> plain_common_name(ByteSpan name) {
  constexpr std::array<std::byte, 3> kCommonName = {std::byte{0x55}, std::byte{4}, std::byte{3}};
  const auto other = [] {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a name of more than plain texts"};
  };
  std::optional<std::string> common_name;
  while (!name.empty()) {
    ByteSpan parts = TRY(next_element(name, V_ASN1_SET)).content;
    if (parts.empty()) return other();
    while (!parts.empty()) {
      ByteSpan part = TRY(next_element(parts, V_ASN1_SEQUENCE)).content;
      const ByteSpan type = TRY(next_element(part, V_ASN1_OBJECT)).content;
      const Element value = TRY(next_element(part, 0, kAnyClass));
      // Of X.520 (2.5.4.n): there is no other spelling of these.
      const bool known = type.size() == 3 && type[0] == kCommonName[0] && type[1] == kCommonName[1];
      if (!part.empty() || !known || type[2] >= std::byte{0x80} || !plain_text(value))
        return other();
      if (!common_name && std::ranges::equal(type, kCommonName)) {
        common_name = std::string(as_text(value.content));
      }
    }
  }
  return common_name.value_or("");
}

}  // namespace

Result<CertificateNames> read_certificate_names(ByteSpan der) {
  // RFC 5280, 4.1: Certificate { TBSCertificate { [0] version?, serial, algorithm, issuer,
  // validity, subject, key, … }, algorithm, signature }.
  ByteSpan rest = der;
  ByteSpan certificate = TRY(next_element(rest, V_ASN1_SEQUENCE)).content;
  ByteSpan tbs = TRY(next_element(certificate, V_ASN1_SEQUENCE)).content;
  TRY(next_element(certificate, V_ASN1_SEQUENCE));
  TRY(next_element(certificate, V_ASN1_BIT_STRING));
  if (!rest.empty() || !certificate.empty()) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "not one certificate: bytes are left over"};
  }
  const Element first = TRY(next_element(tbs, 0, kAnyClass));
  const bool versioned = first.tag_class == V_ASN1_CONTEXT_SPECIFIC && first.tag == 0;
  if (versioned) {
    TRY(next_element(tbs, V_ASN1_INTEGER));
  } else if (first.tag_class != V_ASN1_UNIVERSAL || first.tag != V_ASN1_INTEGER) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "not a certificate"};
  }
  TRY(next_element(tbs, V_ASN1_SEQUENCE));
  TRY(next_element(tbs, V_ASN1_SEQUENCE));
  TRY(next_element(tbs, V_ASN1_SEQUENCE));
  const Element subject = TRY(next_element(tbs, V_ASN1_SEQUENCE));
  TRY(next_element(tbs, V_ASN1_SEQUENCE));
  CertificateNames names{.subject = subject.whole, .fingerprint = crypto::sha256(der)};
  if (Result<std::string> plain = plain_common_name(subject.content); plain.ok()) {
    names.common_name = std::move(*plain);
    return names;
  }
  const NameHandle name = read_name(subject.whole);
  if (name == nullptr) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "not a certificate: a name in it is broken"};
  }
  names.common_name = common_name_of(name.get());
  return names;
}

std::string name_text(ByteSpan name) {
  const NameHandle read = read_name(name);
  return read == nullptr ? "" : name_text(read.get());
}

std::string words(const CertificateNames& names) {
  return names.common_name.empty() ? name_text(names.subject) : names.common_name;
}

Result<CertificateFacts> read_certificate(ByteSpan der) {
  const crypto::Certificate certificate = TRY(crypto::Certificate::from_der(der));
  const X509* raw = certificate.handle();
  CertificateFacts facts;
  facts.common_name = common_name_of(X509_get_subject_name(raw));
  facts.subject = name_text(X509_get_subject_name(raw));
  facts.issuer = name_text(X509_get_issuer_name(raw));
  facts.issuer_common_name = common_name_of(X509_get_issuer_name(raw));
  facts.serial = serial_text(raw);
  facts.not_before = time_text(X509_get0_notBefore(raw));
  facts.not_after = time_text(X509_get0_notAfter(raw));
  describe_key(raw, facts);
  facts.fingerprint = crypto::sha256(der);
  facts.self_signed = X509_NAME_cmp(X509_get_subject_name(raw), X509_get_issuer_name(raw)) == 0;
  return facts;
}

std::string words(const CertificateFacts& facts) {
  return facts.common_name.empty() ? facts.subject : facts.common_name;
}

std::string issuer_words(const CertificateFacts& facts) {
  return facts.issuer_common_name.empty() ? facts.issuer : facts.issuer_common_name;
}

Result<std::vector<Bytes>> certificates_in(ByteSpan file) {
  if (file.empty()) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "it is empty",
                 .mend = "give a certificate in DER or PEM, as openssl x509 writes it"};
  }
  if (file.size() > kCertificateFileBytesMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("{} bytes are too many for certificates", file.size())};
  }
  std::vector<Bytes> found;
  if (crypto::Certificate::from_der(file).ok()) {
    found.emplace_back(file.begin(), file.end());
    return found;
  }
  const BioHandle bio = crypto::reader_of(file);
  for (;;) {
    X509* raw = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr);
    if (raw == nullptr) break;
    found.push_back(crypto::Certificate::adopt(crypto::X509Handle(raw)).to_der());
    if (found.size() > kCertificatesInFileMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "too many certificates in one file"};
    }
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (found.empty() || !at_end) {
    return unreadable(found.empty() ? "not a certificate, neither in DER nor in PEM"
                                    : "a certificate in it cannot be read");
  }
  ERR_clear_error();
  return found;
}

}  // namespace hf::secure_boot
