#include "secure_boot/change/profiles.h"

#include <fmt/format.h>

#include <algorithm>

#include "crypto/crypto.h"
#include "secure_boot/keys/certificate.h"

namespace hf::secure_boot {
namespace {

constexpr std::array<std::pair<Profile, std::string_view>, 6> kProfiles = {{
    {Profile::kMicrosoft2011, "microsoft-2011"},
    {Profile::kMicrosoft2011And2023, "microsoft-2011+2023"},
    {Profile::kMicrosoft2023, "microsoft-2023"},
    {Profile::kDebian, "debian"},
    {Profile::kOwn, "own"},
    {Profile::kNone, "none"},
}};

constexpr std::string_view kMicrosoftSource =
    "github.com/microsoft/secureboot_objects, PreSignedObjects";

enum class Part { kKek, kWindows, kThirdParty, kOptionRom, kDebian };
enum class Generation { k2011, k2023, kDebian };

struct Entry {
  KnownCertificate certificate;
  Part part;
  Generation generation;
};
constexpr std::array<Entry, 8> kEntries = {{
    {{"Microsoft Corporation KEK CA 2011",
      "a1117f516a32cefcba3f2d1ace10a87972fd6bbe8fe0d0b996e09e65d802a503", "OVMF's template"},
     Part::kKek,
     Generation::k2011},
    {{"Microsoft Windows Production PCA 2011",
      "e8e95f0733a55e8bad7be0a1413ee23c51fcea64b3c8fa6a786935fddcc71961", "OVMF's template"},
     Part::kWindows,
     Generation::k2011},
    {{"Microsoft Corporation UEFI CA 2011",
      "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507", "OVMF's template"},
     Part::kThirdParty,
     Generation::k2011},
    {{"Microsoft Corporation KEK 2K CA 2023",
      "3cd3f0309edae228767a976dd40d9f4affc4fbd5218f2e8cc3c9dd97e8ac6f9d", kMicrosoftSource},
     Part::kKek,
     Generation::k2023},
    {{"Windows UEFI CA 2023", "076f1fea90ac29155ebf77c17682f75f1fdd1be196da302dc8461e350a9ae330",
      kMicrosoftSource},
     Part::kWindows,
     Generation::k2023},
    {{"Microsoft UEFI CA 2023", "f6124e34125bee3fe6d79a574eaa7b91c0e7bd9d929c1a321178efd611dad901",
      "the second signature of Debian's shim (package shim-signed)"},
     Part::kThirdParty,
     Generation::k2023},
    {{"Microsoft Option ROM UEFI CA 2023",
      "e5be3e64c6e66a281457ecdece0d6d0787577aad2a3a0144262c10c14ba8d8f1", kMicrosoftSource},
     Part::kOptionRom,
     Generation::k2023},
    {{"Debian Secure Boot CA", "079646974bce09b1f04da67bd722d1fb0947ae4c4010bccdbba52d5b23cbf1a2",
      "/usr/share/shim/debian-uefi-ca.der (package shim-unsigned)"},
     Part::kDebian,
     Generation::kDebian},
}};

constexpr std::array<KnownCertificate, kEntries.size()> known_list() {
  std::array<KnownCertificate, kEntries.size()> out;
  for (size_t i = 0; i < out.size(); ++i) out[i] = kEntries[i].certificate;
  return out;
}
constexpr auto kKnown = known_list();

bool has_generation(Profile profile, Generation generation) {
  switch (profile) {
    case Profile::kMicrosoft2011:
      return generation == Generation::k2011;
    case Profile::kMicrosoft2011And2023:
      return generation == Generation::k2011 || generation == Generation::k2023;
    case Profile::kMicrosoft2023:
      return generation == Generation::k2023;
    case Profile::kDebian:
      return generation == Generation::kDebian;
    case Profile::kOwn:
    case Profile::kNone:
      return false;
  }
  return false;
}

Guid owner_of(const Entry& entry) {
  return entry.generation == Generation::kDebian ? guids::kHoldfast : guids::kMicrosoft;
}

void add_all(SignatureDatabase& to, const std::vector<Bytes>& certificates) {
  for (const Bytes& der : certificates) {
    if (to.contains(guids::kX509, der)) continue;
    to.append(SignatureDatabase::of_certificate(guids::kHoldfast, der));
  }
}

struct Draft {
  SignatureDatabase kek, db;
  std::vector<const Entry*> missing;
  std::vector<std::string> notes;
};

const Entry* known_entry(ByteSpan der) {
  const std::string fingerprint = crypto::sha256(der).hex();
  const auto* found = std::ranges::find_if(
      kEntries, [&](const Entry& entry) { return entry.certificate.fingerprint == fingerprint; });
  return found == kEntries.end() ? nullptr : found;
}

bool wanted(const Entry& entry, Profile profile, const ProfileOptions& options) {
  const bool windows_only = entry.part == Part::kWindows || entry.part == Part::kOptionRom;
  return has_generation(profile, entry.generation) &&
         !(windows_only && options.guest == GuestKind::kLinux);
}

// What stays of a database: all but known certificates that the profile does not have, and digests
// that an earlier profile put there.
SignatureDatabase kept(const std::optional<Bytes>& present, Profile profile,
                       const ProfileOptions& options) {
  auto database = SignatureDatabase::parse(present.value_or(Bytes()));
  if (!database.ok() || profile == Profile::kOwn) return {};
  SignatureDatabase unwanted;
  for (const SignatureList& list : database->lists()) {
    for (const Signature& signature : list.signatures) {
      if (list.type == guids::kX509) {
        const Entry* entry = known_entry(signature.data);
        if (entry == nullptr || wanted(*entry, profile, options)) continue;
        unwanted.append(SignatureDatabase::of_certificate(signature.owner, signature.data));
      } else if (signature.owner == guids::kHoldfastProfile && list.type == guids::kSha256) {
        Digest digest;
        if (signature.data.size() != digest.bytes.size()) continue;
        std::ranges::copy(signature.data, digest.bytes.begin());
        unwanted.append(SignatureDatabase::of_sha256(signature.owner, {digest}));
      }
    }
  }
  database->remove(unwanted);
  return std::move(*database);
}

Draft collect(Profile profile, const CertificatePool& pool, const ProfileOptions& options,
              const SecureBootVariables& present) {
  Draft draft{.kek = kept(present.kek, profile, options), .db = kept(present.db, profile, options)};
  for (const Entry& entry : kEntries) {
    if (!wanted(entry, profile, options)) continue;
    SignatureDatabase& to = entry.part == Part::kKek ? draft.kek : draft.db;
    const bool there = std::ranges::any_of(
        to.certificates(), [&](ByteSpan der) { return known_entry(der) == &entry; });
    if (there) continue;
    const Bytes* der = pool.find(entry.certificate.fingerprint);
    if (der != nullptr) {
      to.append(SignatureDatabase::of_certificate(owner_of(entry), *der));
    } else if (entry.part == Part::kKek && !options.kek.empty()) {
      draft.notes.push_back(
          fmt::format("KEK without \"{}\", which is not at hand: its updates "
                      "cannot be applied inside the guest",
                      entry.certificate.common_name));
    } else {
      draft.missing.push_back(&entry);
    }
  }
  add_all(draft.kek, options.kek);
  add_all(draft.db, options.db);
  draft.db.append(SignatureDatabase::of_sha256(guids::kHoldfastProfile, options.shims));
  return draft;
}

Error lacking(Profile profile, const std::vector<const Entry*>& missing) {
  std::string names, sources;
  for (const Entry* entry : missing) {
    names += fmt::format("{}\"{}\" (sha256 {})", names.empty() ? "" : ", ",
                         entry->certificate.common_name, entry->certificate.fingerprint);
    sources += fmt::format("{}\"{}\" from {}", sources.empty() ? "" : "; ",
                           entry->certificate.common_name, entry->certificate.source);
  }
  const bool windows = std::ranges::all_of(missing, [](const Entry* entry) {
    return entry->part == Part::kWindows || entry->part == Part::kOptionRom;
  });
  return Error{.code = ErrorCode::kNotFound,
               .cause = fmt::format("profile {} needs {}, which this host does not have",
                                    name_of(profile), names),
               .effect = "Nothing was changed",
               .mend = "name the file with --certificate FILE (" + sources + ")" +
                       (windows ? "; --guest linux does without" : "")};
}

Error needs(Profile profile, std::string_view what, std::string_view mend) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = fmt::format("profile {} needs {}", name_of(profile), what),
               .effect = "Nothing was changed",
               .mend = std::string(mend)};
}

void plan_set(ProfilePlan& plan, std::string_view variable, const Bytes& lists,
              const std::optional<Bytes>& present) {
  if (present && *present == lists) return;
  plan.changes.push_back({std::string(variable), ChangeAction::kSet, lists});
}

ProfilePlan plan_none(const SecureBootVariables& present) {
  ProfilePlan plan;
  const auto go = [&](std::string_view name, const std::optional<Bytes>& held) {
    if (held) plan.changes.push_back({std::string(name), ChangeAction::kDelete, {}});
  };
  go("PK", present.pk);
  go("KEK", present.kek);
  go("db", present.db);
  go("dbx", present.dbx);
  return plan;
}

Result<Bytes> platform_key(Profile profile, const CertificatePool& pool,
                           const ProfileOptions& options, const SecureBootVariables& present) {
  if (options.pk) {
    return SignatureDatabase::of_certificate(guids::kHoldfast, *options.pk).to_bytes();
  }
  if (profile == Profile::kOwn) return needs(profile, "a platform key", "--pk CERTIFICATE");
  if (present.pk) return *present.pk;
  if (pool.template_pk()) return *pool.template_pk();
  return needs(profile, "a platform key, and neither the store nor a template has one",
               "--pk CERTIFICATE");
}

}  // namespace

std::string_view name_of(Profile profile) {
  return std::ranges::find(kProfiles, profile, &decltype(kProfiles)::value_type::first)->second;
}

Result<Profile> parse_profile(std::string_view name) {
  const auto* found = std::ranges::find(kProfiles, name, &decltype(kProfiles)::value_type::second);
  if (found != kProfiles.end()) return found->first;
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = fmt::format("\"{}\" is no Secure Boot profile", name.substr(0, 64)),
               .mend =
                   "one of microsoft-2011, microsoft-2011+2023, microsoft-2023, debian, own, "
                   "none"};
}

std::span<const KnownCertificate> known_certificates() { return kKnown; }

void CertificatePool::add(ByteSpan der) {
  std::string fingerprint = crypto::sha256(der).hex();
  if (find(fingerprint) != nullptr) return;
  certificates_.emplace_back(std::move(fingerprint), Bytes(der.begin(), der.end()));
}

Status CertificatePool::add_template(const VariableStore& store) {
  const SecureBootVariables held = secure_boot_variables(store);
  for (const std::optional<Bytes>* lists : {&held.pk, &held.kek, &held.db}) {
    if (!*lists) continue;
    const SignatureDatabase database = TRY(SignatureDatabase::parse(**lists));
    for (ByteSpan der : database.certificates()) add(der);
  }
  if (!template_pk_) template_pk_ = held.pk;
  if (!template_dbx_) template_dbx_ = held.dbx;
  return {};
}

const Bytes* CertificatePool::find(std::string_view fingerprint) const {
  const auto found =
      std::ranges::find(certificates_, fingerprint, &std::pair<std::string, Bytes>::first);
  return found == certificates_.end() ? nullptr : &found->second;
}

Result<ProfilePlan> plan_profile(Profile profile, const CertificatePool& pool,
                                 const ProfileOptions& options,
                                 const SecureBootVariables& present) {
  if (profile == Profile::kNone) return plan_none(present);
  const Draft draft = collect(profile, pool, options, present);
  if (!draft.missing.empty()) return lacking(profile, draft.missing);
  if (profile == Profile::kOwn && options.db.empty()) {
    return needs(profile, "at least one certificate for db", "--db CERTIFICATE");
  }
  if (profile == Profile::kDebian && options.shims.empty()) {
    return needs(profile,
                 "the shim that it admits by digest: Debian's own CA signs what comes "
                 "after it",
                 "--shim /usr/lib/shim/shimx64.efi.signed");
  }
  ProfilePlan plan{.notes = draft.notes};
  SignatureDatabase kek = draft.kek;
  const Bytes pk = TRY(platform_key(profile, pool, options, present));
  if (kek.empty()) {
    // Whoever owns the platform may change the databases too.
    if (profile == Profile::kOwn) return needs(profile, "a key exchange key", "--kek CERTIFICATE");
    kek = TRY(SignatureDatabase::parse(pk));
    plan.notes.push_back("KEK is the platform key: no other was named");
  }
  // In the order in which a guest's firmware would take them: the platform key last.
  plan_set(plan, "db", draft.db.to_bytes(), present.db);
  if (!present.dbx && pool.template_dbx()) plan_set(plan, "dbx", *pool.template_dbx(), present.dbx);
  plan_set(plan, "KEK", kek.to_bytes(), present.kek);
  plan_set(plan, "PK", pk, present.pk);
  return plan;
}

std::string_view recognise_profile(const SecureBootVariables& variables) {
  if (!variables.pk) return name_of(Profile::kNone);
  if (!variables.db) return {};
  auto db = SignatureDatabase::parse(*variables.db);
  if (!db.ok()) return {};
  bool microsoft_2011 = false, microsoft_2023 = false, debian = false;
  for (ByteSpan der : db->certificates()) {
    const Entry* entry = known_entry(der);
    if (entry == nullptr) continue;
    microsoft_2011 = microsoft_2011 || entry->generation == Generation::k2011;
    microsoft_2023 = microsoft_2023 || entry->generation == Generation::k2023;
    debian = debian || entry->generation == Generation::kDebian;
  }
  if (debian) return microsoft_2011 || microsoft_2023 ? "" : name_of(Profile::kDebian);
  if (microsoft_2011 && microsoft_2023) return name_of(Profile::kMicrosoft2011And2023);
  if (microsoft_2011) return name_of(Profile::kMicrosoft2011);
  if (microsoft_2023) return name_of(Profile::kMicrosoft2023);
  return db->empty() ? "" : name_of(Profile::kOwn);
}

}  // namespace hf::secure_boot
