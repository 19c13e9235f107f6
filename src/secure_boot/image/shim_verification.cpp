// What shim 16 does with an image that it loads or is asked about (verify.c, sbat.c, mok.c).
#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/image/signature_search.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kCertTableHeader = 16;

ImageVerdict verdict(Verdict what, std::string reason) {
  return {.verdict = what, .reason = std::move(reason)};
}

// shim shows its own certificate in front of the machine owner's, in the variable it then asks.
SignatureDatabase mok_list_rt(const SecureBootState& state, const ShimTrust& shim) {
  SignatureDatabase both = shim.vendor_db;
  both.append(state.mok);
  return both;
}

struct ShimSources {
  explicit ShimSources(const SecureBootState& state, const ShimTrust& shim)
      : mok(mok_list_rt(state, shim)),
        denied{
            {.database = shim.vendor_dbx, .variable = "shim's own dbx", .vendor = guids::kShimLock},
            {.database = state.dbx, .variable = "dbx", .vendor = guids::kImageSecurity},
            {.database = state.mokx, .variable = "MokListX", .vendor = guids::kShimLock}} {
    if (!state.mok_ignores_db) {
      allowed.push_back({.database = state.db, .variable = "db", .vendor = guids::kImageSecurity});
    }
    if (!shim.vendor_is_certificate) {
      allowed.push_back(
          {.database = shim.vendor_db, .variable = "vendor_db", .vendor = guids::kImageSecurity});
    }
    allowed.push_back({.database = mok, .variable = "MokListRT", .vendor = guids::kShimLock});
  }
  ShimSources(const ShimSources&) = delete;
  ShimSources& operator=(const ShimSources&) = delete;

  SignatureDatabase mok;
  std::vector<SignatureSource> denied;
  std::vector<SignatureSource> allowed;
};

struct Digests {
  Bytes sha256;
  Bytes sha1;
};

std::optional<Authority> find_either(const SignatureSource& source, const Digests& digests) {
  if (auto found = find_digest(source, DigestAlgorithm::kSha256, digests.sha256)) return found;
  return find_digest(source, DigestAlgorithm::kSha1, digests.sha1);
}

ImageVerdict allowed_by(Authority authority, std::string_view how) {
  return {.verdict = Verdict::kAllowed,
          .reason = fmt::format("{} {}", how, authority.words),
          .authority = std::move(authority)};
}

// Every signature is looked at; one that is good is enough, whatever the others are.
ImageVerdict judge_signatures(const PeImage& image, const ShimSources& sources,
                              const Digests& digests) {
  const std::vector<ImageSignature> signatures = signatures_of(image);
  std::string denied;
  std::string broken;
  for (const ImageSignature& entry : signatures) {
    if (!entry.signature) {
      broken = entry.error;
      continue;
    }
    const AuthenticodeSignature& signature = *entry.signature;
    if (!signs_this(signature, DigestAlgorithm::kSha256, digests.sha256)) {
      broken = "its signature is for other bytes: it was changed after it was signed";
      continue;
    }
    bool forbidden = false;
    for (const SignatureSource& source : sources.denied) {
      if (auto found = find_certificate(source, signature, CertificatesTried::kAsShim)) {
        denied = fmt::format("{} revokes the certificate {}", source.variable, found->words);
        forbidden = true;
        break;
      }
    }
    if (forbidden) continue;
    for (const SignatureSource& source : sources.allowed) {
      if (auto found = find_certificate(source, signature, CertificatesTried::kAsShim)) {
        return allowed_by(*std::move(found), "signed under");
      }
    }
  }
  if (!denied.empty()) return verdict(Verdict::kRevoked, denied);
  if (!broken.empty()) return verdict(Verdict::kDamaged, broken);
  return verdict(Verdict::kNotTrusted, "signed by " + signers_in_words(signatures) +
                                           ", and none of it is in db, in MokList or shim's own");
}

ImageVerdict judge_authenticode(const PeImage& image, const ShimSources& sources) {
  if (!image.certificates_end_file()) {
    return verdict(Verdict::kDamaged, "something stands behind its certificate table");
  }
  Result<Bytes> sha256 = image.authenticode_digest(DigestAlgorithm::kSha256, DigestPadding::kShim);
  Result<Bytes> sha1 = image.authenticode_digest(DigestAlgorithm::kSha1, DigestPadding::kShim);
  if (!sha256.ok() || !sha1.ok()) return verdict(Verdict::kDamaged, sha256.error().cause);
  const Digests digests{.sha256 = *std::move(sha256), .sha1 = *std::move(sha1)};
  for (const SignatureSource& source : sources.denied) {
    if (find_either(source, digests)) {
      return verdict(Verdict::kRevoked, fmt::format("{} revokes its digest", source.variable));
    }
  }
  for (const SignatureSource& source : sources.allowed) {
    if (auto found = find_either(source, digests)) return allowed_by(*std::move(found), "by");
  }
  if (!image.is_signed()) {
    return verdict(Verdict::kUnsigned,
                   "it is not signed, and its digest is neither in db nor in MokList");
  }
  return judge_signatures(image, sources, digests);
}

std::optional<ImageVerdict> judge_sbat(const PeImage& image, const SbatLevel& level,
                                       ShimCaller caller) {
  const auto is_sbat = [](const PeSection& section) { return section.name == ".sbat"; };
  const auto count = std::ranges::count_if(image.sections(), is_sbat);
  if (count > 1) return verdict(Verdict::kDamaged, "it has more than one .sbat section");
  const auto section = std::ranges::find_if(image.sections(), is_sbat);
  if (section == image.sections().end() || section->raw_size == 0 ||
      section->raw_size < section->virtual_size) {
    if (caller == ShimCaller::kProtocol) return std::nullopt;
    return verdict(Verdict::kRevoked, "it has no SBAT data, which shim demands");
  }
  if (section->has_relocations) return verdict(Verdict::kDamaged, "its .sbat section is malformed");
  Result<std::vector<SbatComponent>> components =
      parse_sbat(image.file().subspan(section->raw_offset, section->raw_size));
  if (!components.ok()) return verdict(Verdict::kDamaged, components.error().cause);
  if (auto reason = revoked_by(level, *components)) {
    return verdict(Verdict::kRevoked, "SBAT: " + *reason);
  }
  return std::nullopt;
}

// MokListRT holds shim's own in front of the machine owner's.
bool is_shims_own(const Authority& authority, const ShimTrust& shim) {
  if (authority.variable == "db" || authority.data.size() < Guid::kSize) return false;
  const Guid owner = Guid::load(authority.data.data());
  const ByteSpan data = ByteSpan(authority.data).subspan(Guid::kSize);
  for (const SignatureList& list : shim.vendor_db.lists()) {
    for (const Signature& entry : list.signatures) {
      if (entry.owner == owner && std::ranges::equal(entry.data, data)) return true;
    }
  }
  return false;
}

// As preserve_sbat_uefi_variable() compares: by the generation of the level's own row, then by
// date.
bool not_older(const SbatLevel& held, const SbatLevel& own) {
  if (held.limits.front().generation != own.limits.front().generation) {
    return held.limits.front().generation > own.limits.front().generation;
  }
  constexpr size_t kDateSize = 10;
  return held.date.substr(0, kDateSize) >= own.date.substr(0, kDateSize);
}

}  // namespace

Result<ShimTrust> shim_trust_of(const PeImage& shim) {
  ShimTrust trust;
  const PeSection* vendor = shim.section(".vendor_cert");
  if (vendor == nullptr) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "not a shim: no .vendor_cert"};
  }
  const ByteSpan table = shim.content(*vendor);
  auto piece = [&](size_t size_at, size_t offset_at) -> Result<ByteSpan> {
    const uint64_t size = load_le<uint32_t>(table.data() + size_at);
    const uint64_t offset = load_le<uint32_t>(table.data() + offset_at);
    if (size == 0) return ByteSpan();
    if (offset < kCertTableHeader || offset + size > table.size()) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "a .vendor_cert section whose content lies outside of it"};
    }
    return table.subspan(offset, size);
  };
  if (table.size() < kCertTableHeader) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "a .vendor_cert section cut short"};
  }
  const ByteSpan authorized = TRY(piece(0, 8));
  // shim is built with one certificate or with a signature database; only the first begins as DER.
  trust.vendor_is_certificate =
      authorized.size() < 2 || load_le<uint16_t>(authorized.data()) == 0x8230;
  if (trust.vendor_is_certificate) {
    if (!authorized.empty()) {
      trust.vendor_db = SignatureDatabase::of_certificate(guids::kShimLock, authorized);
    }
  } else {
    trust.vendor_db = TRY(SignatureDatabase::parse(authorized));
  }
  trust.vendor_dbx = TRY(SignatureDatabase::parse(TRY(piece(4, 12))));
  if (const PeSection* levels = shim.section(".sbatlevel")) {
    trust.levels = TRY(parse_shim_levels(shim.content(*levels)));
  }
  if (const PeSection* own = shim.section(".sbat")) {
    trust.components = TRY(parse_sbat(shim.content(*own)));
  }
  return trust;
}

std::optional<SbatLevel> effective_level(const SecureBootState& state, const ShimTrust& shim) {
  if (!shim.levels) return state.sbat_level;
  const SbatLevel& own = state.sbat_latest ? shim.levels->latest : shim.levels->automatic;
  return state.sbat_level && not_older(*state.sbat_level, own) ? *state.sbat_level : own;
}

std::optional<std::string> revokes_itself(const SecureBootState& state, const ShimTrust& shim) {
  const std::optional<SbatLevel> level = effective_level(state, shim);
  return level ? revoked_by(*level, shim.components) : std::nullopt;
}

ImageVerdict judge_by_shim(const PeImage& image, const SecureBootState& state,
                           const ShimTrust& shim, ShimCaller caller) {
  const ShimSources sources(state, shim);
  ImageVerdict result = judge_authenticode(image, sources);
  if (!result.allowed()) return result;
  if (result.authority) result.authority->from_shim = is_shims_own(*result.authority, shim);
  if (const auto level = effective_level(state, shim)) {
    if (auto refused = judge_sbat(image, *level, caller)) return *std::move(refused);
  }
  return result;
}

}  // namespace hf::secure_boot
