#include "secure_boot/image/image_verification.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/image/signature_search.h"
#include "secure_boot/keys/certificate.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kRevocationTimeSize = 16;  // EFI_TIME behind the digest of an X.509 hash entry

ImageVerdict verdict(Verdict what, std::string reason) {
  return {.verdict = what, .reason = std::move(reason)};
}

ImageVerdict damaged(std::string reason) { return verdict(Verdict::kDamaged, std::move(reason)); }

const Guid& digest_type(DigestAlgorithm algorithm) {
  switch (algorithm) {
    case DigestAlgorithm::kSha1:
      return guids::kSha1;
    case DigestAlgorithm::kSha256:
      return guids::kSha256;
    case DigestAlgorithm::kSha384:
      return guids::kSha384;
    case DigestAlgorithm::kSha512:
      break;
  }
  return guids::kSha512;
}

std::optional<DigestAlgorithm> tbs_type(const Guid& type) {
  if (type == guids::kX509Sha256) return DigestAlgorithm::kSha256;
  if (type == guids::kX509Sha384) return DigestAlgorithm::kSha384;
  if (type == guids::kX509Sha512) return DigestAlgorithm::kSha512;
  return std::nullopt;
}

std::string certificate_words(ByteSpan der) {
  Result<CertificateFacts> facts = read_certificate(der);
  return facts.ok() ? words(*facts) : std::string("a certificate that cannot be read");
}

Authority authority_of(const SignatureSource& source, const Signature& signature,
                       std::string what) {
  Authority authority{.variable = std::string(source.variable), .vendor = source.vendor};
  authority.data.resize(Guid::kSize);
  signature.owner.store(authority.data.data());
  authority.data.insert(authority.data.end(), signature.data.begin(), signature.data.end());
  authority.words = fmt::format("{} ({})", what, source.variable);
  return authority;
}

SignatureSource dbx_of(const SecureBootState& state) {
  return {.database = state.dbx, .variable = "dbx", .vendor = guids::kImageSecurity};
}

// A signature for other bytes never leads to a certificate of dbx, but its signer may be listed.
std::optional<std::string> forbidden_signer(const SecureBootState& state,
                                            const AuthenticodeSignature& signature, bool covers) {
  const SignatureSource dbx = dbx_of(state);
  if (covers) {
    if (auto found = find_certificate(dbx, signature, CertificatesTried::kAll)) {
      return "dbx revokes the certificate " + found->words;
    }
  }
  for (const Bytes& signer : signature.signers()) {
    if (find_tbs_digest(dbx, signer)) {
      return "dbx revokes the certificate of its signer, " + certificate_words(signer);
    }
  }
  return std::nullopt;
}

SignatureSource db_of(const SecureBootState& state) {
  return {.database = state.db, .variable = "db", .vendor = guids::kImageSecurity};
}

// No signature: only the digest can let it start.
ImageVerdict judge_unsigned(const PeImage& image, const SecureBootState& state) {
  std::optional<Authority> allowed;
  for (DigestAlgorithm algorithm : kDigestAlgorithms) {
    Result<Bytes> digest = image.authenticode_digest(algorithm);
    if (!digest.ok()) return damaged(digest.error().cause);
    if (find_digest(dbx_of(state), algorithm, *digest)) {
      return verdict(Verdict::kRevoked, "dbx revokes its digest");
    }
    // dbx is asked about more than firmware asks it; db is not.
    if (algorithm != DigestAlgorithm::kSha256) continue;
    allowed = find_digest(db_of(state), algorithm, *digest);
  }
  if (!allowed) {
    return verdict(Verdict::kUnsigned, "it is not signed, and its SHA-256 digest is not in db");
  }
  return {.verdict = Verdict::kAllowed,
          .reason = "db holds its digest",
          .authority = std::move(allowed)};
}

// One signature, as firmware goes through them: nothing decides for good but a revocation.
struct FirmwareStep {
  std::optional<ImageVerdict> allowed;
  std::optional<ImageVerdict> revoked;
  std::string reason;  // why it does not count
};

FirmwareStep step(const PeImage& image, const SecureBootState& state,
                  const AuthenticodeSignature& signature) {
  FirmwareStep result;
  Result<Bytes> digest = image.authenticode_digest(signature.algorithm());
  if (!digest.ok()) {
    result.reason = digest.error().cause;
    return result;
  }
  const bool covers = signs_this(signature, signature.algorithm(), *digest);
  if (auto reason = forbidden_signer(state, signature, covers)) {
    result.revoked = verdict(Verdict::kRevoked, *reason);
    return result;
  }
  if (find_digest(dbx_of(state), signature.algorithm(), *digest)) {
    result.revoked = verdict(Verdict::kRevoked, "dbx revokes its digest");
    return result;
  }
  if (auto found = find_digest(db_of(state), signature.algorithm(), *digest)) {
    result.allowed = ImageVerdict{.verdict = Verdict::kAllowed,
                                  .reason = "db holds its digest",
                                  .authority = std::move(found)};
  }
  if (!covers) {
    result.reason = "its signature is for other bytes: it was changed after it was signed";
    return result;
  }
  if (auto found = find_certificate(db_of(state), signature, CertificatesTried::kAll)) {
    // Firmware looks up the certificate of db itself in dbx, too.
    const ByteSpan certificate = ByteSpan(found->data).subspan(Guid::kSize);
    if (!find_tbs_digest(dbx_of(state), certificate)) {
      result.allowed = ImageVerdict{.verdict = Verdict::kAllowed,
                                    .reason = "signed under " + found->words,
                                    .authority = std::move(found)};
    } else if (!result.allowed) {
      result.reason = "dbx revokes the certificate of db that it is signed under";
    }
  }
  return result;
}

}  // namespace

std::optional<Authority> find_digest(const SignatureSource& source, DigestAlgorithm algorithm,
                                     ByteSpan digest) {
  for (const SignatureList& list : source.database.lists()) {
    if (list.type != digest_type(algorithm)) continue;
    for (const Signature& signature : list.signatures) {
      if (!std::ranges::equal(signature.data, digest)) continue;
      return authority_of(source, signature, fmt::format("its {} digest", name_of(algorithm)));
    }
  }
  return std::nullopt;
}

// With a time of revocation firmware looks for a time stamp that a certificate in dbt stands
// behind; there is no dbt here, so that it counts as revoked.
std::optional<Authority> find_tbs_digest(const SignatureSource& source, ByteSpan der) {
  for (const SignatureList& list : source.database.lists()) {
    const std::optional<DigestAlgorithm> algorithm = tbs_type(list.type);
    if (!algorithm) continue;
    const std::optional<Bytes> digest = tbs_digest(*algorithm, der);
    for (const Signature& entry : list.signatures) {
      const size_t size = digest ? digest->size() : 0;
      if (entry.data.size() < size) continue;
      if (digest && entry.data.size() > size + kRevocationTimeSize) continue;
      if (digest && !std::equal(digest->begin(), digest->end(), entry.data.begin())) continue;
      return authority_of(source, entry, "the digest of " + certificate_words(der));
    }
  }
  return std::nullopt;
}

bool signs_this(const AuthenticodeSignature& signature, DigestAlgorithm algorithm,
                ByteSpan digest) {
  return signature.algorithm() == algorithm && std::ranges::equal(signature.image_digest(), digest);
}

// Firmware tries every certificate; shim the first of each list, and none for modules only.
std::optional<Authority> find_certificate(const SignatureSource& source,
                                          const AuthenticodeSignature& signature,
                                          CertificatesTried tried) {
  for (const SignatureList& list : source.database.lists()) {
    if (list.type != guids::kX509) continue;
    for (const Signature& entry : list.signatures) {
      const bool passed_over =
          tried == CertificatesTried::kAsShim && is_module_signing_only(entry.data);
      if (!passed_over && signature.chains_to(entry.data)) {
        return authority_of(source, entry, certificate_words(entry.data));
      }
      if (tried == CertificatesTried::kAsShim) break;
    }
  }
  return std::nullopt;
}

std::string signers_in_words(const std::vector<ImageSignature>& signatures) {
  std::string out;
  for (const ImageSignature& entry : signatures) {
    if (!entry.signature) continue;
    for (const Bytes& signer : entry.signature->signers()) {
      Result<CertificateFacts> facts = read_certificate(signer);
      if (!facts.ok()) continue;
      if (!out.empty()) out += "; ";
      out += fmt::format("{} (issued by {})", words(*facts), issuer_words(*facts));
    }
  }
  return out.empty() ? "nobody that can be named" : out;
}

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllowed:
      return "allowed";
    case Verdict::kNotTrusted:
      return "not trusted";
    case Verdict::kUnsigned:
      return "unsigned";
    case Verdict::kRevoked:
      return "revoked";
    case Verdict::kDamaged:
      break;
  }
  return "damaged";
}

std::vector<ImageSignature> signatures_of(const PeImage& image) {
  std::vector<ImageSignature> out;
  for (const WinCertificate& entry : image.certificate_table().entries) {
    if (entry.pkcs7.empty()) continue;
    ImageSignature found;
    Result<AuthenticodeSignature> signature = AuthenticodeSignature::parse(entry.pkcs7);
    if (signature.ok()) {
      Result<Bytes> digest = image.authenticode_digest(signature->algorithm());
      found.covers_image = digest.ok() && signs_this(*signature, signature->algorithm(), *digest);
      found.signature = std::move(*signature);
    } else {
      found.error = signature.error().cause;
    }
    out.push_back(std::move(found));
  }
  return out;
}

std::optional<std::string> not_for_this_firmware(const PeImage& image) {
  if (image.machine() != kPeMachineX64) return "it is made for another kind of processor";
  if (image.subsystem() < kPeSubsystemEfiApplication ||
      image.subsystem() > kPeSubsystemEfiRuntimeDriver) {
    return "it is no EFI program: its subsystem is another";
  }
  return std::nullopt;
}

ImageVerdict judge_by_firmware(const PeImage& image, const SecureBootState& state) {
  if (auto reason = not_for_this_firmware(image)) return damaged(*reason);
  if (!image.is_signed()) return judge_unsigned(image, state);
  if (!image.certificate_table().whole) {
    return damaged("its certificate table is damaged");
  }
  const std::vector<ImageSignature> signatures = signatures_of(image);
  std::optional<ImageVerdict> allowed;
  std::string reason;
  for (const ImageSignature& entry : signatures) {
    if (!entry.signature) {
      // What firmware does with one that it cannot read depends on how far it gets.
      return damaged(entry.error);
    }
    FirmwareStep result = step(image, state, *entry.signature);
    if (result.revoked) return *std::move(result.revoked);
    if (!allowed) allowed = std::move(result.allowed);
    if (!result.reason.empty()) reason = std::move(result.reason);
  }
  if (allowed) return *std::move(allowed);
  if (!reason.empty()) return damaged(reason);
  return verdict(Verdict::kNotTrusted,
                 "signed by " + signers_in_words(signatures) + ", and none of it is in db");
}

}  // namespace hf::secure_boot
