#include "cli/secure_boot_profile.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/core/grammar.h"
#include "cli/secure_boot_target.h"
#include "secure_boot/change/content.h"
#include "secure_boot/image/pe_image.h"
#include "secure_boot/keys/certificate.h"

namespace hf::cli {

namespace sb = secure_boot;

Result<std::vector<Bytes>> certificates_of(const std::vector<std::string>& files) {
  std::vector<Bytes> all;
  for (const std::string& path : files) {
    const Bytes bytes = TRY(read_file(path, sb::kCertificateFileBytesMax));
    for (Bytes& der : TRY_CONTEXT(sb::certificates_in(bytes), path)) all.push_back(std::move(der));
  }
  return all;
}

Result<sb::CertificatePool> certificate_pool(const std::vector<std::string>& files) {
  sb::CertificatePool pool;
  for (const std::string& path : files) {
    const Bytes bytes = TRY(read_file(path, sb::kContentBytesMax));
    TRY_CONTEXT(sb::add_certificates(pool, bytes), path);
  }
  for (const sb::HostFile& host : sb::host_certificate_files()) {
    auto bytes = read_file(std::string(host.path), sb::kContentBytesMax);
    if (bytes.ok()) TRY_CONTEXT(sb::add_certificates(pool, *bytes), host.path);
  }
  return pool;
}

namespace {

Result<sb::ProfileOptions> profile_options(sb::Profile profile, const ProfileWords& words) {
  sb::ProfileOptions options{.guest = words.guest == "linux" ? sb::GuestKind::kLinux
                                                             : sb::GuestKind::kAny};
  if (!words.pk.empty()) {
    std::vector<Bytes> pk = TRY(certificates_of({words.pk}));
    if (pk.size() != 1) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = words.pk + " holds more than one certificate; there is one PK"};
    }
    options.pk = std::move(pk[0]);
  }
  options.kek = TRY(certificates_of(words.kek));
  options.db = TRY(certificates_of(words.db));
  std::vector<std::string> shims = words.shims;
  if (shims.empty() && profile == sb::Profile::kDebian) shims.emplace_back(sb::kHostShim);
  for (const std::string& path : shims) {
    const Bytes bytes = TRY(read_file(path, sb::kContentBytesMax));
    const sb::PeImage image = TRY_CONTEXT(sb::PeImage::parse(bytes), path);
    const Bytes raw = TRY(image.authenticode_digest(sb::DigestAlgorithm::kSha256));
    Digest& digest = options.shims.emplace_back();
    HF_ASSERT(raw.size() == digest.bytes.size());
    std::ranges::copy(raw, digest.bytes.begin());
  }
  return options;
}

}  // namespace

void add_profile_options(CLI::App* sub, ProfileWords& words) {
  sub->add_option("--guest", words.guest, "linux: without certificates that only Windows needs")
      ->check(CLI::IsMember({"any", "linux"}))
      ->capture_default_str();
  sub->add_option("--certificate", words.certificates,
                  "where to look for certificates besides Debian's packages; may be repeated")
      ->type_name(kFileWord);
  sub->add_option("--pk", words.pk, "certificate of the platform key")->type_name(kFileWord);
  sub->add_option("--kek", words.kek, "certificate for KEK; may be repeated")->type_name(kFileWord);
  sub->add_option("--db", words.db, "further certificate for db; may be repeated")
      ->type_name(kFileWord);
  sub->add_option("--shim", words.shims, "loader that debian admits by digest; may be repeated")
      ->type_name(kFileWord);
}

Result<sb::ProfilePlan> plan_profile_words(const ProfileWords& words,
                                           const sb::SecureBootVariables& present) {
  const sb::Profile profile = TRY(sb::parse_profile(words.profile));
  const sb::CertificatePool pool = TRY(certificate_pool(words.certificates));
  return sb::plan_profile(profile, pool, TRY(profile_options(profile, words)), present);
}

}  // namespace hf::cli
