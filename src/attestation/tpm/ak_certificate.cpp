#include "attestation/tpm/ak_certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <ctime>
#include <optional>

namespace hf::attestation {
namespace {

Error refuse(ErrorCode code, std::string cause) {
  return Error{.code = code, .cause = "the attestation key's certificate " + std::move(cause)};
}

Status check_validity(const crypto::Certificate& certificate, Micros now) {
  time_t at = static_cast<time_t>(now.value / 1'000'000);
  if (X509_cmp_time(X509_get0_notBefore(certificate.handle()), &at) >= 0) {
    return refuse(ErrorCode::kInvalidArgument, "is not valid yet");
  }
  if (X509_cmp_time(X509_get0_notAfter(certificate.handle()), &at) <= 0) {
    return refuse(ErrorCode::kInvalidArgument, "has expired");
  }
  return {};
}

Result<VmId> vm_of(const crypto::Certificate& certificate) {
  std::optional<VmId> vm;
  for (const std::string& uri : certificate.uris()) {
    if (!uri.starts_with(kVmUriPrefix)) continue;
    Result<VmId> id = VmId::parse_hex(std::string_view(uri).substr(kVmUriPrefix.size()));
    if (!id.ok() || vm) return refuse(ErrorCode::kInvalidArgument, "does not name one VM");
    vm = *id;
  }
  if (!vm) return refuse(ErrorCode::kInvalidArgument, "names no VM");
  return *vm;
}

}  // namespace

Result<AkIdentity> check_ak_certificate(std::string_view pem, const TpmPublic& ak,
                                        const std::vector<crypto::Certificate>& cas, Micros now) {
  if (pem.size() > kCertificateMax) return refuse(ErrorCode::kLimit, "is too long");
  const crypto::Certificate certificate = TRY(crypto::Certificate::from_pem(pem));
  const crypto::Certificate* issuer = nullptr;
  for (const crypto::Certificate& ca : cas) {
    if (ca.is_ca() && certificate.signed_by(ca)) issuer = &ca;
  }
  if (issuer == nullptr) {
    return refuse(ErrorCode::kWrongKey, "was not issued by a site that is trusted here");
  }
  if (certificate.is_ca()) return refuse(ErrorCode::kInvalidArgument, "is a CA's");
  TRY(check_validity(certificate, now));
  const crypto::SpkiKey subject = TRY(certificate.public_key());
  const crypto::EvpHandle key = TRY(openssl_key(ak));
  if (EVP_PKEY_eq(subject.handle(), key.get()) != 1) {
    ERR_clear_error();
    return refuse(ErrorCode::kWrongKey, "is for another key");
  }
  return AkIdentity{.vm = TRY(vm_of(certificate)), .ca = issuer->fingerprint()};
}

}  // namespace hf::attestation
