// A profile in the operator's words: which certificates, and where they are.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "secure_boot/change/profiles.h"

namespace CLI {
class App;
}

namespace hf::cli {

inline constexpr std::string_view kProfileNames =
    "microsoft-2011, microsoft-2011+2023, microsoft-2023, debian, own or none";

struct ProfileWords {
  std::string target;
  std::string profile;
  std::string guest = "any";
  std::string pk;
  std::vector<std::string> kek, db, shims, certificates;
  bool dry_run = false;
};

// --guest, --certificate, --pk, --kek, --db, --shim.
void add_profile_options(CLI::App* sub, ProfileWords& words);
// What has to change for the profile, from the host's certificates and the operator's files.
Result<secure_boot::ProfilePlan> plan_profile_words(
    const ProfileWords& words, const secure_boot::SecureBootVariables& present);
// Certificates in these files, in their order.
Result<std::vector<Bytes>> certificates_of(const std::vector<std::string>& files);
// What the host has, as far as it can be read, and the operator's own files.
Result<secure_boot::CertificatePool> certificate_pool(const std::vector<std::string>& files);

}  // namespace hf::cli
