// The few X.509 acts Holdfast needs: a site CA, leaves for mutual TLS, endorsement key certificates
// for vTPMs. RFC 5280; the EK profile is TCG's "EK Credential Profile for TPM Family 2.0", 3.2.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/key_pair.h"

struct x509_st;

namespace hf::crypto {

struct X509Free {
  void operator()(x509_st* certificate) const;
};
using X509Handle = std::unique_ptr<x509_st, X509Free>;

class Certificate {
 public:
  static Result<Certificate> from_pem(std::string_view pem);  // exactly one
  static Result<Certificate> from_der(ByteSpan der);
  static Certificate adopt(X509Handle certificate);

  std::string to_pem() const;
  Bytes to_der() const;
  Digest fingerprint() const;             // SHA-256 of the DER: what people compare at pairing
  std::string common_name() const;        // empty if there is none
  std::vector<std::string> uris() const;  // of the subjectAltName
  bool is_ca() const;
  bool valid_at(Micros time) const;  // by its dates alone
  bool has_extended_key_usage(const char* oid) const;
  bool signed_by(const Certificate& issuer) const;  // signature and issuer name only
  Result<SpkiKey> public_key() const;
  x509_st* handle() const { return certificate_.get(); }

 private:
  explicit Certificate(X509Handle certificate) : certificate_(std::move(certificate)) {}
  X509Handle certificate_;
};

// A subject public key out of "PUBLIC KEY" or "CERTIFICATE REQUEST" PEM; a request must be signed
// by the key it carries (proof of possession). kInvalidArgument, kUnsupported.
Result<SpkiKey> subject_key_from_pem(std::string_view pem);

struct CaOptions {
  std::string common_name;
  Micros now;
  uint32_t valid_days = 0;
};
Certificate make_ca(const KeyPair& key, const CaOptions& options);

struct LeafOptions {
  std::string common_name;
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;
  std::vector<std::string> uris;
  Micros now;
  uint32_t valid_days = 0;
};
// For server and client authentication. kInvalidArgument: a name or address that is not one.
Result<Certificate> issue_leaf(const Certificate& ca, const KeyPair& ca_key, const SpkiKey& subject,
                               const LeafOptions& options);

struct EkOptions {
  std::string manufacturer;  // TPM_PT_MANUFACTURER as "id:XXXXXXXX"
  std::string model;
  std::string firmware_version;  // "id:XXXXXXXX"
  int specification_revision = 0;
  Micros now;
};
// Without end of validity (99991231235959Z), as the TCG profile recommends.
Result<Certificate> issue_ek(const Certificate& ca, const KeyPair& ca_key, const SpkiKey& ek,
                             const EkOptions& options);

struct SignerOptions {
  std::string common_name;
  std::vector<std::string> uris;
  const char* extended_key_usage = nullptr;  // OID; null: none, so that it is no TLS identity
  Micros now;
};
// For a key that signs statements: digitalSignature and nothing else. Without end of validity
// (99991231235959Z, RFC 5280, 4.1.2.5).
Certificate issue_signer(const Certificate& ca, const KeyPair& ca_key, const SpkiKey& subject,
                         const SignerOptions& options);

}  // namespace hf::crypto
