#include "secure_boot/change/profiles.h"

#include <gtest/gtest.h>

#include "crypto/crypto.h"
#include "secure_boot/change/content.h"
#include "secure_boot/testing/test_files.h"
#include "secure_boot/testing/test_keys.h"

namespace hf::secure_boot {
namespace {

constexpr EfiTime kNow{.year = 2026, .month = 11, .day = 22};

CertificatePool host_pool() {
  CertificatePool pool;
  for (const HostFile& file : host_certificate_files()) {
    HF_ASSERT(add_certificates(pool, read_test_file(std::string(file.path))).ok());
  }
  return pool;
}

const KnownCertificate& known(std::string_view common_name) {
  for (const KnownCertificate& certificate : known_certificates()) {
    if (certificate.common_name == common_name) return certificate;
  }
  HF_ASSERT(false);
}

VariableStore store_of(const char* path) {
  return VariableStore::parse(read_test_file(path)).value();
}

std::vector<std::string> titles(const std::optional<Bytes>& lists) {
  std::vector<std::string> out;
  const SignatureDatabase database = SignatureDatabase::parse(lists.value_or(Bytes())).value();
  for (const SignatureList& list : database.lists()) {
    for (const Signature& one : list.signatures) out.push_back(describe(list, one).title);
  }
  return out;
}

// Plans, applies, and what the store holds then.
Result<SecureBootVariables> after(VariableStore& store, Profile profile,
                                  const ProfileOptions& options) {
  const ProfilePlan plan =
      TRY(plan_profile(profile, host_pool(), options, secure_boot_variables(store)));
  TRY(apply_changes(store, plan.changes, kNow));
  return secure_boot_variables(store);
}

using Titles = std::vector<std::string>;
constexpr const char* kDebianKek = "Debian UEFI Secure Boot (PK/KEK key)";

TEST(Profiles, find_the_certificates_that_debian_ships) {
  const CertificatePool pool = host_pool();
  for (const char* name :
       {"Microsoft Corporation KEK CA 2011", "Microsoft Windows Production PCA 2011",
        "Microsoft Corporation UEFI CA 2011", "Microsoft UEFI CA 2023", "Debian Secure Boot CA"}) {
    EXPECT_NE(pool.find(known(name).fingerprint), nullptr) << name;
  }
  EXPECT_EQ(pool.find(known("Windows UEFI CA 2023").fingerprint), nullptr);
}

TEST(Profiles, recognise_the_templates) {
  EXPECT_EQ(recognise_profile(secure_boot_variables(store_of(kMicrosoftStore))), "microsoft-2011");
  EXPECT_EQ(recognise_profile(secure_boot_variables(store_of(kSnakeoilStore))), "own");
  EXPECT_EQ(recognise_profile(secure_boot_variables(store_of(kEmptyStore))), "none");
}

TEST(Profiles, microsoft_2011_is_what_the_template_has) {
  VariableStore store = store_of(kEmptyStore);
  const auto held = after(store, Profile::kMicrosoft2011, {});
  ASSERT_TRUE(held.ok()) << held.error().cause;
  const SecureBootVariables shipped = secure_boot_variables(store_of(kMicrosoftStore));
  EXPECT_EQ(titles(held->db), titles(shipped.db));
  EXPECT_EQ(held->db, shipped.db) << "to the byte: PCR 7 stays as it is";
  EXPECT_EQ(held->pk, shipped.pk);
  EXPECT_EQ(held->dbx, shipped.dbx);
  EXPECT_EQ(titles(held->kek), Titles{"Microsoft Corporation KEK CA 2011"});
  EXPECT_TRUE(held->enabled);
  EXPECT_EQ(recognise_profile(*held), "microsoft-2011");
}

TEST(Profiles, name_what_is_lacking_and_where_to_get_it) {
  VariableStore store = store_of(kMicrosoftStore);
  const auto lacking = after(store, Profile::kMicrosoft2023, {});
  ASSERT_FALSE(lacking.ok());
  EXPECT_EQ(lacking.error().code, ErrorCode::kNotFound);
  for (const char* name : {"Microsoft Corporation KEK 2K CA 2023", "Windows UEFI CA 2023",
                           "Microsoft Option ROM UEFI CA 2023"}) {
    EXPECT_NE(lacking.error().cause.find(name), std::string::npos) << lacking.error().cause;
  }
  EXPECT_EQ(lacking.error().cause.find("\"Microsoft UEFI CA 2023\""), std::string::npos);
  EXPECT_NE(lacking.error().mend.find("--certificate FILE"), std::string::npos);
  // For a Linux guest only the KEK is lacking, and an own one will do.
  const auto linux_guest = after(store, Profile::kMicrosoft2023, {.guest = GuestKind::kLinux});
  ASSERT_FALSE(linux_guest.ok());
  EXPECT_EQ(linux_guest.error().cause.find("Windows"), std::string::npos);
}

TEST(Profiles, roll_over_with_an_own_kek) {
  VariableStore store = store_of(kMicrosoftStore);
  const TestKey kek("Own KEK");
  const ProfileOptions options{.guest = GuestKind::kLinux, .kek = {kek.certificate}};
  const auto both = after(store, Profile::kMicrosoft2011And2023, options);
  ASSERT_TRUE(both.ok()) << both.error().cause;
  EXPECT_EQ(titles(both->db),
            (Titles{"Microsoft Corporation UEFI CA 2011", "Microsoft UEFI CA 2023"}));
  EXPECT_EQ(titles(both->kek),
            (Titles{kDebianKek, "Microsoft Corporation KEK CA 2011", "Own KEK"}));
  EXPECT_EQ(recognise_profile(*both), "microsoft-2011+2023");
  const auto only_new = after(store, Profile::kMicrosoft2023, options);
  ASSERT_TRUE(only_new.ok()) << only_new.error().cause;
  EXPECT_EQ(titles(only_new->db), Titles{"Microsoft UEFI CA 2023"});
  EXPECT_EQ(titles(only_new->kek), (Titles{kDebianKek, "Own KEK"}));
  EXPECT_EQ(only_new->pk, secure_boot_variables(store_of(kMicrosoftStore)).pk);
  EXPECT_EQ(only_new->dbx, secure_boot_variables(store_of(kMicrosoftStore)).dbx);
  const auto back = after(store, Profile::kMicrosoft2011, options);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(titles(back->db), Titles{"Microsoft Corporation UEFI CA 2011"});
}

TEST(Profiles, keep_what_the_operator_added) {
  VariableStore store = store_of(kMicrosoftStore);
  const TestKey own("Own loader");
  const Bytes lists =
      SignatureDatabase::of_certificate(guids::kHoldfast, own.certificate).to_bytes();
  ASSERT_TRUE(apply_change(store, {"db", ChangeAction::kAppend, lists}, kNow).ok());
  const TestKey kek("Own KEK");
  const auto held =
      after(store, Profile::kMicrosoft2023, {.guest = GuestKind::kLinux, .kek = {kek.certificate}});
  ASSERT_TRUE(held.ok()) << held.error().cause;
  EXPECT_EQ(titles(held->db), (Titles{"Own loader", "Microsoft UEFI CA 2023"}));
  EXPECT_EQ(recognise_profile(*held), "microsoft-2023");
}

TEST(Profiles, change_nothing_of_debians_template_for_microsoft_2011) {
  auto plan = plan_profile(Profile::kMicrosoft2011, host_pool(), {},
                           secure_boot_variables(store_of(kMicrosoftStore)));
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(plan->changes.empty()) << "PCR 7 stays as it is";
}

TEST(Profiles, plan_nothing_for_what_is_so_already) {
  VariableStore store = store_of(kEmptyStore);
  const TestKey key("Own");
  const ProfileOptions options{
      .pk = key.certificate, .kek = {key.certificate}, .db = {key.certificate}};
  ASSERT_TRUE(after(store, Profile::kOwn, options).ok());
  auto again = plan_profile(Profile::kOwn, host_pool(), options, secure_boot_variables(store));
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->changes.empty());
  EXPECT_EQ(recognise_profile(secure_boot_variables(store)), "own");
}

TEST(Profiles, own_needs_its_three_keys) {
  VariableStore store = store_of(kMicrosoftStore);
  const TestKey key("Own");
  EXPECT_FALSE(after(store, Profile::kOwn, {}).ok());
  EXPECT_FALSE(after(store, Profile::kOwn, {.pk = key.certificate, .db = {key.certificate}}).ok());
  EXPECT_FALSE(after(store, Profile::kOwn, {.pk = key.certificate, .kek = {key.certificate}}).ok());
}

TEST(Profiles, debian_admits_its_shim_by_digest_and_nothing_of_microsofts) {
  VariableStore store = store_of(kMicrosoftStore);
  Digest shim;
  shim.bytes.fill(std::byte{3});
  EXPECT_FALSE(after(store, Profile::kDebian, {}).ok());
  const auto held = after(store, Profile::kDebian, {.shims = {shim}});
  ASSERT_TRUE(held.ok()) << held.error().cause;
  EXPECT_EQ(titles(held->db), (Titles{"Debian Secure Boot CA", shim.hex()}));
  EXPECT_EQ(recognise_profile(*held), "debian");
  // Back: the shim's digest came with the profile and goes with it.
  const auto back = after(store, Profile::kMicrosoft2011, {.guest = GuestKind::kLinux});
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(titles(back->db), Titles{"Microsoft Corporation UEFI CA 2011"});
}

TEST(Profiles, none_takes_all_keys_out) {
  VariableStore store = store_of(kMicrosoftStore);
  const auto held = after(store, Profile::kNone, {});
  ASSERT_TRUE(held.ok());
  EXPECT_FALSE(held->pk || held->kek || held->db || held->dbx || held->enabled);
  EXPECT_EQ(recognise_profile(*held), "none");
}

TEST(Profiles, are_known_by_name) {
  for (const char* name :
       {"microsoft-2011", "microsoft-2011+2023", "microsoft-2023", "debian", "own", "none"}) {
    EXPECT_EQ(name_of(parse_profile(name).value()), name);
  }
  EXPECT_FALSE(parse_profile("windows").ok());
}

}  // namespace
}  // namespace hf::secure_boot
