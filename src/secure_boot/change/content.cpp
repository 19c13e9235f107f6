#include "secure_boot/change/content.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/image/pe_image.h"
#include "secure_boot/keys/authenticated_update.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/signed_data.h"

namespace hf::secure_boot {
namespace {

constexpr std::array<HostFile, 3> kHostFiles = {{
    {"/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "ovmf"},
    {kHostShim, "shim-signed"},
    {"/usr/share/shim/debian-uefi-ca.der", "shim-unsigned"},
}};

constexpr size_t kDigestLinesMax = 4096;

bool is_image(ByteSpan file) { return file.size() >= 2 && as_text(file.first(2)) == "MZ"; }

Guid owner_of(ByteSpan der, const Guid& owner) {
  auto facts = read_certificate(der);
  if (!facts.ok()) return owner;
  const std::string fingerprint = facts->fingerprint.hex();
  const bool microsoft = std::ranges::any_of(known_certificates(), [&](const auto& known) {
    return known.fingerprint == fingerprint &&
           known.common_name.find("Debian") == std::string::npos;
  });
  return microsoft ? guids::kMicrosoft : owner;
}

// One digest a line, as sha256sum and hash tools print them: what stands behind it is ignored.
Result<std::vector<Digest>> digest_lines(std::string_view text) {
  const Error none{.code = ErrorCode::kInvalidArgument, .cause = "no lines of SHA-256 digests"};
  std::vector<Digest> digests;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = line.substr(0, line.find_first_of(" \t\r"));
    if (line.empty()) continue;
    auto digest = Digest::parse_hex(line);
    if (!digest.ok() || digests.size() >= kDigestLinesMax) return none;
    digests.push_back(*digest);
  }
  if (digests.empty()) return none;
  return digests;
}

Result<Digest> sha256_of(const PeImage& image) {
  const Bytes raw = TRY(image.authenticode_digest(DigestAlgorithm::kSha256));
  Digest digest;
  HF_ASSERT(raw.size() == digest.bytes.size());
  std::ranges::copy(raw, digest.bytes.begin());
  return digest;
}

// Signing pads an image with zeros to whole eight bytes, where its certificate table begins
// (Microsoft, PE Format, "The Attribute Certificate Table"), and the zeros count as part of it.
Result<Content> digest_of_image(ByteSpan file, const Guid& owner) {
  constexpr size_t kAlignment = 8;
  const PeImage image = TRY(PeImage::parse(file));
  Content content{.form = "the digest of an image"};
  std::vector<Digest> digests = {TRY(sha256_of(image))};
  const bool is_signed = !image.certificate_table().entries.empty();
  if (!is_signed && file.size() % kAlignment != 0) {
    Bytes padded(file.begin(), file.end());
    padded.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment);
    digests.push_back(TRY(sha256_of(TRY(PeImage::parse(padded)))));
    content.form = fmt::format(
        "two digests of an unsigned image of {} bytes: as it is, and with the {} zeros that "
        "signing it adds",
        file.size(), padded.size() - file.size());
  }
  content.signatures = SignatureDatabase::of_sha256(owner, digests);
  return content;
}

}  // namespace

Result<Content> signatures_in(ByteSpan file, const Guid& owner) {
  if (file.empty()) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "it is empty",
        .mend = "give a certificate, signature lists, a signed update, an image or digests"};
  }
  if (file.size() > kContentBytesMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("{} bytes are too many", file.size())};
  }
  if (is_image(file)) return digest_of_image(file, owner);
  if (looks_like_update(file)) {
    const AuthenticatedUpdate update = TRY(parse_update(file));
    return Content{TRY(SignatureDatabase::parse(update.value)),
                   "a signed update (taken on your word: its signature was not checked)"};
  }
  if (auto certificates = certificates_in(file); certificates.ok()) {
    Content content{.form = "certificates"};
    for (const Bytes& der : *certificates) {
      content.signatures.append(SignatureDatabase::of_certificate(owner_of(der, owner), der));
    }
    return content;
  }
  if (auto digests = digest_lines(as_text(file)); digests.ok()) {
    return Content{SignatureDatabase::of_sha256(owner, *digests), "digests"};
  }
  auto lists = SignatureDatabase::parse(file);
  if (lists.ok() && !lists->empty()) return Content{std::move(*lists), "signature lists"};
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause =
                   "neither a certificate nor signature lists, a signed update, an image or "
                   "digests" +
                   (lists.ok() ? "" : " (" + lists.error().cause + ")"),
               .mend = "convert it with openssl x509 or cert-to-efi-sig-list"};
}

Status add_certificates(CertificatePool& pool, ByteSpan file) {
  if (is_image(file)) {
    const PeImage image = TRY(PeImage::parse(file));
    for (const WinCertificate& entry : image.certificate_table().entries) {
      if (entry.pkcs7.empty()) continue;
      for (const Bytes& der : TRY(SignedData::parse(entry.pkcs7)).certificates()) pool.add(der);
    }
    return {};
  }
  if (auto store = VariableStore::parse(file); store.ok()) return pool.add_template(*store);
  const Content content = TRY(signatures_in(file));
  for (ByteSpan der : content.signatures.certificates()) pool.add(der);
  return {};
}

std::span<const HostFile> host_certificate_files() { return kHostFiles; }

}  // namespace hf::secure_boot
