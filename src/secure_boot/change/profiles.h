// Profiles: which certificates PK, KEK, db and dbx hold, by a name.
//
//   microsoft-2011        KEK CA 2011; Windows Production PCA 2011, UEFI CA 2011
//   microsoft-2011+2023   both generations, while a fleet rolls over
//   microsoft-2023        KEK 2K CA 2023; Windows UEFI CA 2023, UEFI CA 2023, Option ROM CA 2023
//   debian                Debian's CA and the digest of Debian's shim: nothing of Microsoft's boots
//   own                   the operator's own PK, KEK and db
//   none                  no keys: Secure Boot is off
//
// What is neither Microsoft's nor Debian's in KEK and db is the operator's and stays, but for `own`
// and `none`; dbx stays as it is.
//
// Holdfast ships no certificate. They are found by fingerprint in what the host has (OVMF's
// template, the signatures of Debian's shim, Debian's CA file) and in the operator's files; a
// profile that lacks one says which.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::secure_boot {

enum class Profile {
  kMicrosoft2011,
  kMicrosoft2011And2023,
  kMicrosoft2023,
  kDebian,
  kOwn,
  kNone,
};
std::string_view name_of(Profile profile);
Result<Profile> parse_profile(std::string_view name);

// What the profiles are made of.
struct KnownCertificate {
  std::string_view common_name;
  std::string_view fingerprint;  // SHA-256 of the DER, hex
  std::string_view source;       // where an operator gets it
};
std::span<const KnownCertificate> known_certificates();

// Certificates at hand, by fingerprint.
class CertificatePool {
 public:
  void add(ByteSpan der);
  // All of its PK, KEK and db; its PK and dbx are what a store without them gets.
  Status add_template(const VariableStore& store);
  const Bytes* find(std::string_view fingerprint) const;
  const std::optional<Bytes>& template_pk() const { return template_pk_; }    // lists
  const std::optional<Bytes>& template_dbx() const { return template_dbx_; }  // lists

 private:
  std::vector<std::pair<std::string, Bytes>> certificates_;
  std::optional<Bytes> template_pk_;
  std::optional<Bytes> template_dbx_;
};

enum class GuestKind { kAny, kLinux };  // kLinux: without the certificates that only Windows needs

struct ProfileOptions {
  GuestKind guest = GuestKind::kAny;
  std::optional<Bytes> pk;    // DER; default: the store's own, else the template's
  std::vector<Bytes> kek;     // DER; with some, the profile's own KEKs are used if at hand
  std::vector<Bytes> db;      // DER; besides the profile's
  std::vector<Digest> shims;  // Authenticode SHA-256 of the loaders that `debian` admits
};

struct ProfilePlan {
  std::vector<Change> changes;     // empty if the store is so already
  std::vector<std::string> notes;  // what was left out, and why
};
// kNotFound names each certificate that is lacking, and where to get it. kInvalidArgument: options
// that the profile needs are missing.
Result<ProfilePlan> plan_profile(Profile profile, const CertificatePool& pool,
                                 const ProfileOptions& options, const SecureBootVariables& present);

// Which profile db looks like, whatever the operator added: "microsoft-2011", …; empty: like none.
std::string_view recognise_profile(const SecureBootVariables& variables);

}  // namespace hf::secure_boot
