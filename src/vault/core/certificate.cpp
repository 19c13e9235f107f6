#include "vault/core/certificate.h"

#include <algorithm>

#include "vault/core/signing_labels.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr uint32_t kCertificateMagic = 0x434a4648;  // "HFJC"
constexpr uint16_t kCertificateVersion = 1;

}  // namespace

Bytes sign_certificate(const JournalCertificate& certificate, const crypto::SigningKey& vault) {
  Writer out;
  out.u32(kCertificateMagic);
  out.u16(kCertificateVersion);
  out.u16(0);
  out.id(certificate.site);
  out.id(certificate.vm);
  out.u32(certificate.version.value);
  out.u32(0);
  out.raw(certificate.journal_public_key);
  out.raw(vault.sign(labelled(kCertificateLabel, out.bytes())));
  HF_ASSERT(out.bytes().size() == kJournalCertificateSize);
  return out.take();
}

Result<JournalCertificate> verify_certificate(ByteSpan bytes, const crypto::PublicKey& vault) {
  Reader reader(bytes);
  const uint32_t magic = reader.u32();
  const uint16_t version = reader.u16();
  const uint16_t zero = reader.u16();
  JournalCertificate certificate;
  certificate.site = reader.id<SiteId>();
  certificate.vm = reader.id<VmId>();
  certificate.version = KeyVersion(reader.u32());
  const uint32_t more_zero = reader.u32();
  const ByteSpan key = reader.raw(crypto::kPublicKeySize);
  const ByteSpan raw_signature = reader.raw(crypto::kSignatureSize);
  TRY(reader.finish("journal certificate"));
  if (magic != kCertificateMagic || version != kCertificateVersion || zero != 0 || more_zero != 0) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "not a journal certificate of version 1"};
  }
  std::copy(key.begin(), key.end(), certificate.journal_public_key.begin());
  crypto::Signature signature;
  std::copy(raw_signature.begin(), raw_signature.end(), signature.begin());
  const ByteSpan statement = bytes.first(kJournalCertificateSize - crypto::kSignatureSize);
  if (!crypto::verify(vault, labelled(kCertificateLabel, statement), signature)) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "a journal certificate not signed by the pinned vault"};
  }
  return certificate;
}

}  // namespace hf::vault
