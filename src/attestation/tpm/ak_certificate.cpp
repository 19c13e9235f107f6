#include "attestation/tpm/ak_certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>
#include <optional>

#include "base/text.h"

namespace hf::attestation {
namespace {

Error refuse(ErrorCode code, std::string cause) {
  return Error{.code = code, .cause = "the attestation key's certificate " + std::move(cause)};
}

// How far `time` and this clock are apart; "" where the certificate has no date there.
std::string distance(const ASN1_TIME* time, time_t now) {
  const std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)> present(ASN1_TIME_set(nullptr, now),
                                                                      &ASN1_TIME_free);
  int days = 0;
  int rest = 0;
  if (present == nullptr || ASN1_TIME_diff(&days, &rest, present.get(), time) != 1) return "";
  const int64_t seconds = int64_t{days} * 86'400 + rest;
  return duration_words(static_cast<uint64_t>(seconds < 0 ? -seconds : seconds) * 1'000'000);
}

Status check_validity(const crypto::Certificate& certificate, Micros now) {
  time_t at = static_cast<time_t>(now.value / 1'000'000);
  const ASN1_TIME* from = X509_get0_notBefore(certificate.handle());
  const ASN1_TIME* to = X509_get0_notAfter(certificate.handle());
  if (X509_cmp_time(from, &at) >= 0) {
    return refuse(ErrorCode::kInvalidArgument,
                  "is not valid yet: it begins " + distance(from, at) +
                      " from now by this clock, so this clock or its site's is wrong")
        .with_mend("compare the clocks: timedatectl here and at that site");
  }
  if (X509_cmp_time(to, &at) <= 0) {
    return refuse(ErrorCode::kInvalidArgument,
                  "has expired, " + distance(to, at) + " ago by this clock")
        .with_mend(
            "see whether this clock is right: timedatectl; else have the key certified anew");
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
